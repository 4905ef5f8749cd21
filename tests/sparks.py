"""How the tests run Spark: on few cores, without what only pays for much data."""

from __future__ import annotations

import os
import shutil

import pytest

QUICK = {  # small data: what takes the time is Java compiling each query
    "spark.log.level": "ERROR",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
NO_PYSPARK = "pyspark is not installed: pip install 'amzrec[spark]'"
NO_JAVA = "there is no Java: install 17 or 21"


def need_spark() -> None:
    """Skip, saying why, where pyspark or Java is not there."""
    pytest.importorskip("pyspark", reason=NO_PYSPARK)
    if not shutil.which("java") and not os.environ.get("JAVA_HOME"):
        pytest.skip(NO_JAVA)
