"""Folders know what they hold: each damage of each file is one clear error, and `doctor` names it with what to type."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.commands.doctor import doctor
from amzrec.commands.evaluate import evaluate
from amzrec.commands.prepare import prepare
from amzrec.commands.recommend import recommend
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.page.summary import figures_of
from amzrec.reviews.cache import dataset_of
from amzrec.store import dataset as dataset_module
from amzrec.store import remembered, structure, vectors
from amzrec.store.dataset import PARTS, open_dataset
from amzrec.store.folders import private_cache, private_folder
from amzrec.store.manifest import Entry, Manifest, read_manifest, write_manifest
from amzrec.store.ownership import DATASET_FOLDER, EXPORT_FOLDER, RUN_FOLDER
from amzrec.store.revision import revised
from amzrec.store.run import Run, open_run
from amzrec.store.vectors import FILES, read_vectors
from runs import parity_vectors, random_vectors, write_run
from voices import Voice


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path / "runs" / "joint", dataset, random_vectors(dataset, np.random.default_rng(0)))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small dataset folder."""
    rows = "".join(f"u{n % 9},p{n % 7},{n % 5 + 1}\n" for n in range(63))
    (tmp_path / "reviews.csv").write_text(f"user,item,rating\n{rows}")
    return prepare(tmp_path / "reviews.csv", tmp_path / "dataset").path


def all_of(run: Path) -> list[Any]:
    """What a run answers from, as bytes."""
    opened = open_run(run)
    found = opened.vectors
    strings = [found.customer_ids, found.product_ids, found.titles]
    parts = [part for each in strings for part in (each.blob, each.offsets, each.order)]
    layers = [part for both in found.layers for part in both]
    return [opened.info, found.head, *(np.asarray(a).tobytes() for a in [*found.arrays().values(), *parts, *layers])]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "a bit": flipped,
    "cut": lambda content, rng: content[: rng.integers(len(content))],
    "empty": lambda content, rng: b"",
    "zeros": lambda content, rng: bytes(len(content)),
    "longer": lambda content, rng: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_of_each_file_of_a_run_is_an_error(run: Run, damage: str) -> None:
    whole, rng, missed = all_of(run.path), np.random.default_rng(1), []
    files = [file for file in sorted(run.path.rglob("*")) if file.is_file()]
    assert len(files) > 25
    for file in files:
        content = file.read_bytes()
        file.write_bytes(DAMAGES[damage](content, rng))
        try:
            missed += [file.name] if all_of(run.path) != whole or file.read_bytes() != content else []
        except AmzrecError as error:
            said = str(error)
            missed += [] if "\n" not in said and (file.name in said or file.name == "manifest.json") else [said]
        file.write_bytes(content)
    assert missed == []
    assert all_of(run.path) == whole


def test_each_file_that_is_gone_is_an_error(run: Run) -> None:
    for file in [file for file in sorted(run.path.rglob("*")) if file.is_file()]:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(AmzrecError):
            all_of(run.path)
        file.write_bytes(content)


@pytest.mark.parametrize(
    "file",
    ["run.json", "manifest.json", *(f"vectors/{n}.npy" for n in ("retrieval_query", "history_bag", "head_kernel_0"))],
)
def test_a_file_of_another_run_is_an_error(run: Run, checkerboard: Path, tmp_path: Path, file: str) -> None:
    """The arrays of both have the same shape, so that nothing else could tell."""
    board = open_dataset(checkerboard)
    other = write_run(tmp_path / "other", board, random_vectors(board, np.random.default_rng(1)))
    assert (run.path / file).stat().st_size == (other.path / file).stat().st_size
    shutil.copyfile(other.path / file, run.path / file)
    with pytest.raises(AmzrecError, match="is damaged"):
        recommend("u03", run.path)


def test_what_was_compared_once_is_not_read_again_and_what_changed_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "TICK", -1.0)
    monkeypatch.setattr(remembered.Files, "remember", lambda found: remembered_now(found))
    looked: list[str] = []
    check = Manifest.check_content

    def looking(manifest: Manifest, folder: Path, name: str, held: Path | None = None) -> None:
        looked.append(name)
        check(manifest, folder, name, held)

    monkeypatch.setattr(Manifest, "check_content", looking)
    read_vectors(run.path)
    assert len(looked) > 20
    looked.clear()
    read_vectors(run.path)
    assert looked == ["vectors/vectors.json"]
    file = run.path / "vectors" / "product_bias.npy"
    before = file.stat()
    file.write_bytes(flipped(file.read_bytes(), np.random.default_rng(0)))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a careless tool would
    with pytest.raises(AmzrecError, match=r"product_bias\.npy"):
        read_vectors(run.path)


def remembered_now(found: remembered.Files) -> None:
    """Remember also what is younger than a tick."""
    place = private_folder(private_cache() / remembered.PLACE)
    (place / found.name).touch()


def test_a_run_that_changed_this_very_moment_is_read_again(run: Run) -> None:
    names = ["run.json"]
    (run.path / "run.json").touch()
    found = remembered.Files(run.path, names, "x")
    found.youngest += 10  # as by a clock of another machine
    found.remember()
    assert not found.are_known()
    found.youngest -= 10
    found.remember(wait=True)
    assert found.are_known()
    assert not remembered.Files(run.path, names, "y").are_known()


def test_where_nothing_can_be_remembered_everything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "file"))
    assert recommend("u03", run)["recommendations"]


def test_what_was_remembered_long_ago_is_forgotten(tmp_path: Path) -> None:
    for name, age in (("old", remembered.KEPT + 60), ("new", 60.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - age))
    remembered.forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest, and give it the checksum that belongs to it."""
    document = json.loads((folder / "manifest.json").read_text())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


def test_a_manifest_of_a_newer_format_says_how_to_get_on(run: Run, dataset: Path) -> None:
    for folder, kind in ((run.path, RUN_FOLDER), (dataset, DATASET_FOLDER)):
        rewritten(folder, lambda document: document.update(format_version=99))
        with pytest.raises(AmzrecError, match=r"format 99.*pip install --upgrade amzrec"):
            read_manifest(folder, kind)
        (check,) = doctor(folder)
        assert not check.ok
        assert check.remedy == "pip install --upgrade amzrec"
    with pytest.raises(AmzrecError, match="--upgrade"):
        open_dataset(dataset)
    with pytest.raises(AmzrecError, match="--upgrade"):
        open_run(run.path)


def old(run: Run) -> Path:
    """Make a run one of before there were manifests."""
    (run.path / "manifest.json").unlink()
    info = json.loads((run.path / "run.json").read_text())
    del info["identity"]
    (run.path / "run.json").write_text(json.dumps(info))
    return run.path


def test_a_run_of_before_manifests_opens_and_is_evaluated(run: Run) -> None:
    before = recommend("u03", run.path)
    assert recommend("u03", old(run)) == before
    evaluate(run.path)
    assert not (run.path / "manifest.json").exists()
    assert "of before there were checksums" in doctor(run.path)[0].found


def changed(name: str, place: Any, value: Any) -> Callable[[Path], None]:
    """Change numbers of an array, which its checksum then fits."""

    def change(run: Path) -> None:
        file, index = run / "vectors" / f"{name}.npy", run / "vectors" / "vectors.json"
        array = np.load(file)
        array[place] = value
        np.save(file, array)
        document = json.loads(index.read_text())
        document["files"][name]["crc32"] = zlib.crc32(array.data)
        index.write_text(json.dumps(document))

    return change


def head(**values: Any) -> Callable[[Path], None]:
    """Change numbers beside the arrays."""

    def change(run: Path) -> None:
        file = run / "vectors" / "vectors.json"
        document = json.loads(file.read_text())
        document["head"].update(values)
        file.write_text(json.dumps(document))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("seen_offsets", 3, 1 << 40), "seen_offsets.npy does not ascend"),
        (changed("seen_offsets", -1, 1 << 40), "seen_offsets.npy goes from 0 to"),
        (changed("customer_ids_offsets", 2, -5), "customer_ids_offsets.npy does not ascend"),
        (changed("customer_ids_order", 2, 99), "customer_ids_order.npy has row 99"),
        (changed("seen_product", 2, -1), "seen_product.npy has row .* or -1 of 21"),
        (changed("candidates", 0, 1 << 30), "candidates.npy has row 1,073,741,824"),
        (changed("rating_query", (1, 1), np.nan), "rating_query holds what is no number"),
        (changed("seen_stars", 1, np.inf), "seen_stars holds what is no number"),
        (head(mean=float("nan")), "mean in vectors.json is nan"),
        (head(mean=1e9), "mean is 1000000000.0, where stars go from 1.0 to 5.0"),
        (head(low=6.0), "stars go from 6.0 to 5.0"),
        (head(temperature=0.0), "temperature"),
        (lambda run: np.save(run / "vectors" / "rating_weight.npy", np.zeros(3, np.float32)), "rating_weight.npy"),
    ],
)
def test_what_cannot_be_is_an_error_in_a_run_of_before_manifests_too(
    run: Run, change: Callable[[Path], None], said: str
) -> None:
    """An offset out of range ends the process, where it is followed."""
    change(old(run))
    with pytest.raises(AmzrecError, match=said):
        recommend("u03", run.path)


def test_every_array_has_its_lengths() -> None:
    assert structure.SHAPES.keys() == FILES.keys()
    assert {name: len(sides.split()) for name, sides in structure.SHAPES.items()} == {
        name: stored.rank for name, stored in vectors.FILES.items()
    }


def test_arrays_are_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "BLOCK", 4)
    table = np.arange(21).reshape(7, 3)
    assert [part.tolist() for part in structure.blocks(table)] == [[row] for row in table.tolist()]
    parts = [part.tolist() for part in structure.blocks(np.arange(9), 1)]
    assert parts == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8]]
    assert [*structure.blocks(None), *structure.blocks(np.zeros((0, 3)))] == []


# --- figures come into a finished run


def test_figures_and_pictures_of_a_run_are_in_its_manifest(run: Run) -> None:
    evaluate(run)
    manifest = read_manifest(run.path, RUN_FOLDER)
    assert manifest is not None
    assert {"metrics.json", "plots/coverage.png"} <= manifest.files.keys()
    assert manifest.replacing == {}
    assert manifest.identity == run.info.identity
    evaluate(run)
    assert all(check.ok for check in doctor(run.path))
    metrics = run.path / "metrics.json"
    metrics.write_text(metrics.read_text().replace("0.", "0.9", 1))
    with pytest.raises(AmzrecError, match="amzrec evaluate"):
        figures_of(run)
    problems = [check for check in doctor(run.path) if not check.ok]
    assert [check.name for check in problems] == ["metrics.json"]
    assert problems[0].remedy == f"amzrec evaluate {run.path}"
    evaluate(run)
    assert figures_of(run) is not None


@pytest.mark.parametrize("moves", [0, 1])
def test_whoever_is_killed_while_figures_come_leaves_a_whole_run(
    run: Run, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(text: str) -> None:
        with revised(run.path, RUN_FOLDER, "the figures") as new:
            for name in ("metrics.json", "metrics_later.json"):
                (new / name).write_text(text)

    put("1")
    replace, left = Path.replace, [moves]

    def killed(self: Path, target: Path) -> Path:
        if self.name.startswith("metrics"):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            put("22")
    assert all(check.ok for check in doctor(run.path))
    put("333")
    assert (run.path / "metrics.json").read_text() == "333"
    manifest = read_manifest(run.path, RUN_FOLDER)
    assert manifest is not None
    assert manifest.replacing == {}


# --- datasets


def test_train_and_test_that_changed_places_are_an_error(dataset: Path) -> None:
    shutil.copyfile(dataset / "test.parquet", dataset / "train.parquet")
    with pytest.raises(AmzrecError, match=r"train\.parquet .*Prepare it again: amzrec prepare"):
        open_dataset(dataset)
    (dataset / "manifest.json").unlink()
    info = json.loads((dataset / "dataset.json").read_text())
    del info["identity"]
    (dataset / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(AmzrecError, match=r"train\.parquet has .* reviews where .* were written"):
        open_dataset(dataset).part("train")


@pytest.mark.long
def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    source = str(tmp_path / "reviews.csv")
    Path(source).write_text("user,item,rating\n" + "".join(f"u{i % 9},p{i % 7},{i % 5 + 1}\n" for i in range(63)))
    whole = dataset_of(source)
    expected = {part: whole.part(part).customer.tolist() for part in PARTS}
    for name in ("train.parquet", "rejects.parquet", "dataset.json", "manifest.json", "customers.parquet"):
        for damage in (lambda file: file.write_bytes(file.read_bytes()[:-3]), Path.unlink):
            damage(whole.path / name)
            voice = Voice()
            found = dataset_of(source, progress=voice)
            assert found.path == whole.path
            assert {part: found.part(part).customer.tolist() for part in PARTS} == expected
            assert any("made anew" in line for line in voice.lines), name
    voice = Voice()
    dataset_of(source, progress=voice)
    assert not any("made anew" in line for line in voice.lines)


# --- doctor


def test_doctor_finds_each_damaged_file_and_says_what_to_type(run: Run, dataset: Path) -> None:
    for folder, typed in ((run.path, "amzrec train"), (dataset, "amzrec prepare")):
        assert all(check.ok for check in doctor(folder))
        for file in [file for file in sorted(folder.rglob("*")) if file.is_file()]:
            content = file.read_bytes()
            file.write_bytes(flipped(content, np.random.default_rng(2)))
            problems = [check for check in doctor(folder) if not check.ok]
            assert problems, file
            assert problems[0].name == str(file.relative_to(folder)) or file.name in ("manifest.json", "run.json")
            assert typed in problems[0].remedy
            file.write_bytes(content)
        assert all(check.ok for check in doctor(folder))


def test_doctor_looks_at_exports_and_says_of_what_is_not_ours_that_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "saved_model").mkdir(parents=True)
    (folder / "export.json").write_text(json.dumps({"run": "joint", "products": 3, "identity": "ab" * 16}))
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    write_manifest(folder, EXPORT_FOLDER)
    (folder / "notes.txt").write_text("mine")
    checks = doctor(folder)
    assert all(check.ok for check in checks)
    assert "is not of amzrec" in next(check.found for check in checks if check.name == "notes.txt")
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"grape")
    (problem,) = [check for check in doctor(folder) if not check.ok]
    assert (problem.name, problem.remedy[:19]) == ("saved_model/saved_model.pb", "export it again: am")


def test_doctor_of_a_folder_from_the_command_line(run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", str(run.path)])
    assert done.exit_code == 0, done.output
    assert "all are what was written" in done.stdout
    (run.path / "vectors" / "product_bias.npy").unlink()
    done = CliRunner().invoke(app, ["doctor", str(run.path), "--json"])
    assert done.exit_code == 1
    assert [check["name"] for check in json.loads(done.stdout) if not check["ok"]] == ["vectors/product_bias.npy"]
    for wrong in (tmp_path, tmp_path / "nothing"):
        done = CliRunner().invoke(app, ["doctor", str(wrong)])
        assert done.exit_code == 1
        assert done.stderr.count("amzrec: error: ") == 1


def test_an_entry_is_the_size_and_the_checksum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456789")
    assert Entry.of(tmp_path / "file") == Entry(9, "cbf43926")  # the check value of CRC-32


def test_a_run_is_of_its_vectors(checkerboard: Path, tmp_path: Path) -> None:
    """Two runs of the same vectors have two identities."""
    board = open_dataset(checkerboard)
    made = [write_run(tmp_path / name, board, parity_vectors(board)) for name in "ab"]
    assert made[0].info.identity != made[1].info.identity
    assert made[0].manifest is not None
    assert made[0].manifest.identity == made[0].info.identity


def test_a_dataset_that_is_replaced_while_it_is_opened_is_opened_anew(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = prepare(tmp_path / "reviews.csv", tmp_path / "other", PrepareConfig(seed=7)).path
    wanted, swapped = open_dataset(other).train.stars, list[str]()

    def swapping(folder: Path, *words: Any) -> Manifest | None:
        if not swapped:  # between the reading of dataset.json and that of everything else
            swapped.append("once")
            dataset.rename(tmp_path / "gone")
            other.rename(dataset)
        return read_manifest(folder, *words)

    monkeypatch.setattr(dataset_module, "read_manifest", swapping)
    np.testing.assert_array_equal(open_dataset(dataset).train.stars, wanted)
    assert swapped == ["once"]
