"""DuckDB as an engine: the contract, and what it does alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import engines
from amzrec.reviews.engines.protocol import Engine
from engine_contract import EngineContract


class TestDuckDB(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        return engines.connect(tmp_path)

    def test_a_stream_is_scanned_anew_each_time(self, engine: Engine) -> None:
        scans = []

        class Stream:
            def __arrow_c_stream__(self, requested_schema: object = None) -> object:
                scans.append(1)
                return pa.table({"n": [1, 2]}).__arrow_c_stream__()

        table = engine.scan(Stream())
        assert table is not None
        scans.clear()
        assert [engine.size(table) for _ in range(2)] == [2, 2]
        assert len(scans) >= 2


def test_an_engine_is_a_module_of_the_folder() -> None:
    assert engines.names() == ["duckdb", "spark"]


def test_an_unknown_engine_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"--engine is 'flink'; allowed: duckdb | spark"):
        engines.connect(tmp_path, PrepareConfig(engine="flink"))
