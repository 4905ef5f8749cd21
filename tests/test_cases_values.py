"""Stars and times as people write them: each small file has a right value that is known without the code."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.answers import given
from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.store.dataset import NO_TIME, Dataset, Scale
from voices import Voice

MAY_27 = int(datetime.datetime(2014, 5, 27, 18, 27, 59, tzinfo=datetime.UTC).timestamp())
DAY = MAY_27 - MAY_27 % 86400


def dataset_of(folder: Path, header: str, rows: list[str], **settings: Any) -> tuple[Dataset, str]:
    """The dataset of a file of these lines, and all that was said."""
    file = folder / "reviews.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    voice = Voice()
    dataset = prepare(file, folder / "out", PrepareConfig(valid=0, **settings), overwrite=True, progress=voice)
    return dataset, "\n".join(voice.lines)


def values(dataset: Dataset, column: str) -> dict[str, Any]:
    """Customer id → value."""
    ids = dataset.customers["customer_id"].to_pylist()
    return {
        ids[c]: getattr(part, column)[i].item()
        for part in (dataset.train, dataset.test)
        for i, c in enumerate(part.customer)
    }


@pytest.mark.parametrize(
    ("others", "time", "seconds"),
    [
        (["05/06/2014", "30/12/2013"], "27/05/2014", DAY),
        (["05.06.2014"], "27.05.2014", DAY),
        (["5/6/14", "12/30/13"], "5/27/14", DAY),
        (["20130101", "20131231"], "20140527", DAY),
        (["20130101000000"], "20140527182759", MAY_27),
        (["5/6/2014 8:05"], "5/27/2014 18:27", MAY_27 - 59),
        (["1/2/2013 11:59:00 PM"], "5/27/2014 6:27:59 PM", MAY_27),
        (["June 5, 2013"], "May 27, 2014", DAY),
        (["5 Jun 2013"], "27 May 2014", DAY),
        (["05-Jun-13"], "27-May-14", DAY),
        (["Mon Jan 05 00:00:00 +0000 2015"], "Tue May 27 11:27:59 -0700 2014", MAY_27),
        (["Reviewed in Canada on June 5, 2013"], "Reviewed in the United States on May 27, 2014", DAY),
        (["27. März 2013", "1. Okt. 2012", "24. Dezember 2012", "3. Jän. 2014"], "27. Mai 2014", DAY),
        (["1er févr. 2013", "14 juillet 2012", "2 août 2013", "9 DÉCEMBRE 2013"], "27 mai 2014", DAY),
        (["5 de enero de 2013", "31 de dic. de 2013"], "27 de mayo de 2014", DAY),
        (["5 gennaio 2013", "31 ottobre 2013", "1 lug 2013"], "27 maggio 2014", DAY),
        (["5 de março de 2013", "31 de dezembro de 2013"], "27 de maio de 2014 às 18:27:59", MAY_27),
        (["Montag, 5. Januar 2015"], "Dienstag, 27. Mai 2014 um 18:27:59", MAY_27),
        (["Commenté en France le 2 août 2013"], "Commenté en Belgique le 27 mai 2014", DAY),
        (["June 1st, 2013", "June 2nd, 2013"], "May 27th, 2014", DAY),
        (["2013-01-01T00:00:00Z"], "2014-05-27T11:27:59-07:00", MAY_27),
        (["2013-01-01 00:00:00+0000"], "2014-05-27 20:27:59+0200", MAY_27),
        (["2013/01/31"], "2014/05/27", DAY),
        (["41000", "41001.5"], "41786", DAY),
        (["1400000000000000000"], f"{MAY_27}000000000", MAY_27),
        (["1400000000.5"], f"{MAY_27}.25", MAY_27),
        (["1400000000000"], f"{MAY_27}999", MAY_27),
        (["1400000000000000"], f"{MAY_27}000001", MAY_27),
        (["1.400000000e9"], f"{MAY_27 / 10**9!r}e9", MAY_27),
    ],
)  # fmt: skip
def test_a_column_of_times_has_one_format_that_all_its_rows_tell(
    tmp_path: Path, others: list[str], time: str, seconds: int
) -> None:
    rows = [f'u{i};p{i};{i + 1};"{text}"' for i, text in enumerate([*others, *others])]
    dataset, said = dataset_of(tmp_path, "user;item;stars;time", [*rows, f'wanted;p1;3;"{time}"', f'x;p0;4;"{time}"'])
    found = values(dataset, "timestamp")
    assert found["wanted"] == seconds, said
    assert NO_TIME not in found.values()


MONTHS = [
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jän feb maerz apr mai jun jul aug sept okt nov dez",
    "jan feb mrz apr mai jun jul aug sep okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv fevr mars avr mai juin juil aout sept oct nov dec",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago set oct nov dic",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "gen feb mar apr mag giu lug ago set ott nov dic",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "jan fev mar abr mai jun jul ago set out nov dez",
    "januari februari maart april mei juni juli augustus september oktober november december",
]


def test_names_of_months_stand_for_their_numbers_in_many_languages(tmp_path: Path) -> None:
    rows, expected = [], {}
    for language, names in enumerate(MONTHS):
        for n, name in enumerate(names.split(), 1):
            rows.append(f"u{language}-{n},p{n % 4},{n % 5},3 {name.title() if language % 2 else name} 2014")
            expected[f"u{language}-{n}"] = int(datetime.datetime(2014, n, 3, tzinfo=datetime.UTC).timestamp())
    assert values(dataset_of(tmp_path, "user,item,stars,time", rows)[0], "timestamp") == expected


def test_a_year_alone_is_its_first_day(tmp_path: Path) -> None:
    rows = [f"u{y},p{y % 3},{y % 5},{y}" for y in range(2001, 2011)]
    columns = "customer=user,product=item,stars=stars,timestamp=year"
    dataset, said = dataset_of(tmp_path, "user,item,stars,year", rows, columns=columns)
    assert values(dataset, "timestamp")["u2001"] == 978307200
    assert "read as years" in said


@pytest.mark.parametrize("nothing", ["0", "-1", "", "9999-12-31", "253402214400", "0009-05-27", "0001-01-01", "1e30"])
def test_what_is_no_time_of_a_review_counts_as_missing_and_is_said(tmp_path: Path, nothing: str) -> None:
    rows = [f"u{i},p{i % 3},{i % 5},{MAY_27 + i}" for i in range(20)]
    dataset, said = dataset_of(tmp_path, "user,item,stars,time", [*rows, f"none,p1,2,{nothing}"])
    found = values(dataset, "timestamp")
    assert found["none"] == NO_TIME
    assert found["u3"] == MAY_27 + 3
    assert "1 of 21 reviews have no timestamp" in said


def test_days_and_months_that_may_be_either_are_said_with_what_to_type(tmp_path: Path) -> None:
    rows = [f"u{i},p{i % 3},{i % 5},0{i % 9 + 1}/05/2014" for i in range(9)]
    dataset, said = dataset_of(tmp_path, "user,item,stars,time", rows)
    assert "--time-format %d/%m/%Y" in said
    dataset, said = dataset_of(tmp_path, "user,item,stars,time", rows, time_format="%d/%m/%Y")
    assert values(dataset, "timestamp")["u8"] == int(datetime.datetime(2014, 5, 9, tzinfo=datetime.UTC).timestamp())


def test_a_time_format_that_is_none_is_refused(tmp_path: Path) -> None:
    for format in ("dmy", "%Q", "%H:%M"):
        with pytest.raises(AmzrecError, match="--time-format"):
            dataset_of(tmp_path, "user,item,stars,time", ["u,p,4,1"], time_format=format)


@pytest.mark.parametrize(
    ("written", "stars"),
    [
        (["4,5", "0,5", "3"], [4.5, 0.5, 3]),
        (["4.0 out of 5 stars", "1.0 out of 5 stars"], [4, 1]),
        (["5 stars", "1 star"], [5, 1]),
        (["4/5", "1/5", "5 / 5"], [4, 1, 5]),
        (["80%", "20 %"], [80, 20]),
        (["★★★★☆", "★☆☆☆☆"], [4, 1]),
        (["4,0 von 5 Sternen", "1,0 von 5 Sternen"], [4, 1]),
        (["Rated 4 out of 5", "Rated 2.5 out of 5"], [4, 2.5]),
        (["0.5", "4.5"], [0.5, 4.5]),
        (["0", "3", "5", "10"], [0, 3, 5, 10]),
        (["0", "55", "100"], [0, 55, 100]),
        (["-10", "0.5", "9.9"], [-10, 0.5, 9.9]),
    ],
)
def test_stars_are_the_numbers_that_people_write(tmp_path: Path, written: list[str], stars: list[float]) -> None:
    rows = [f'u{i};p{i % 4};"{written[i % len(written)]}"' for i in range(12)]
    dataset, _ = dataset_of(tmp_path, "user;item;stars", rows)
    assert values(dataset, "stars") == pytest.approx({f"u{i}": stars[i % len(stars)] for i in range(12)}, rel=1e-6)


@pytest.mark.parametrize("only", ["1", "5", "1.0", "100"])
def test_stars_that_are_all_equal_are_clicks(tmp_path: Path, only: str) -> None:
    dataset, said = dataset_of(tmp_path, "user,item,rating", [f"u{i},p{i % 4},{only}" for i in range(20)])
    assert dataset.info.stars is None
    assert f"all stars are {float(only):g}: taken as clicks" in said


@pytest.mark.parametrize(("mark", "scale"), [("-1", range(1, 11)), ("99", range(-9, 10)), ("-1", range(0, 6))])
def test_a_mark_for_not_rated_stands_apart_and_is_said(tmp_path: Path, mark: str, scale: range) -> None:
    rows = [f"u{i},p{i % 4},{value}" for i, value in enumerate([*scale, *scale, mark, mark])]
    dataset, said = dataset_of(tmp_path, "user,item,rating", rows)
    assert f"--unrated {mark}" in said
    assert (dataset.info.stars.min, dataset.info.stars.max) == (scale[0], scale[-1])  # type: ignore[union-attr]
    dataset, said = dataset_of(tmp_path, "user,item,rating", rows, unrated="none")
    assert float(mark) in values(dataset, "stars").values()


def test_many_zeros_below_a_scale_from_one_are_said_and_left_out_when_asked(tmp_path: Path) -> None:
    rows = [f"u{i},p{i % 4},{max(0, i % 20 - 9)}" for i in range(100)]
    dataset, said = dataset_of(tmp_path, "user,item,rating", rows)
    assert "add --unrated 0" in said
    dataset, said = dataset_of(tmp_path, "user,item,rating", rows, unrated="0")
    assert dataset.info.stars.min == 1  # type: ignore[union-attr]
    assert dataset.info.counts.kept == 100


def test_counts_are_no_stars_and_clicks_when_asked(tmp_path: Path) -> None:
    rows = [f"u{i},p{i % 4},{i * i * 30}" for i in range(30)]
    with pytest.raises(AmzrecError, match=r"look like counts.*--stars-are clicks"):
        dataset_of(tmp_path, "user,item,rating", rows)
    dataset, _ = dataset_of(tmp_path, "user,item,rating", rows, stars_are="clicks")
    assert dataset.info.stars is None
    assert dataset.info.counts.kept == 30


def test_counts_weigh_clicks_by_the_logarithm_of_one_more_and_by_1_on_average(tmp_path: Path) -> None:
    """log 2, log 4 and log 8 are 1, 2 and 3 times log 2, whose mean is 2 times log 2."""
    rows = ["u1,p1,1", "u2,p2,3", "u3,p1,7", "u4,p2,-2", "u5,p2,many", "u6,p1,"]
    settings = {"columns": "customer=user,product=item,stars=plays", "test": 0.0, "max_rejects": 0.5}
    dataset, said = dataset_of(tmp_path, "user,item,plays", rows, stars_are="counts", **settings)
    assert values(dataset, "weight") == pytest.approx({"u1": 0.5, "u2": 1.0, "u3": 1.5}, rel=1e-6)
    assert np.isnan(dataset.train.stars).all()
    assert "counts of 'plays': every row is a click that weighs log(1 + count)" in said
    assert dataset.info.counts.rejected == {"count is no number from 0 on": 3}
    assert (dataset.info.stars, dataset.info.stars_are) == (None, "counts")
    assert dataset.train.take(np.array([2])).weight == pytest.approx([1.5])


def test_the_mean_weight_is_1_over_train_and_the_other_parts_are_on_its_scale(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("user,item,plays\nu1,p2,7\n")
    settings = {"columns": "customer=user,product=item,stars=plays", "split": "given"}
    dataset, _ = dataset_of(
        tmp_path, "user,item,plays", ["u1,p1,1", "u2,p2,1"], stars_are="counts",
        test_source=str(tmp_path / "test.csv"), **settings,
    )  # fmt: skip
    assert dataset.train.weight == pytest.approx([1, 1])
    assert dataset.test.weight == pytest.approx([3])


def test_counts_that_cannot_weigh_anything_are_refused_with_what_to_type(tmp_path: Path) -> None:
    columns = "customer=user,product=item,stars=plays"
    with pytest.raises(AmzrecError, match=r"all counts are 0.*--stars-are clicks"):
        dataset_of(tmp_path, "user,item,plays", ["u1,p1,0", "u2,p2,0"], stars_are="counts", test=0.0, columns=columns)
    with pytest.raises(AmzrecError, match="add stars=COLUMN"):
        dataset_of(tmp_path, "user,item", ["u1,p1", "u2,p2"], stars_are="counts")


def test_stars_that_are_all_equal_stay_stars_when_asked(tmp_path: Path) -> None:
    rows = [f"u{i},p{i % 4},5" for i in range(20)]
    _, said = dataset_of(tmp_path, "user,item,rating", rows)
    assert "--stars-are stars" in said
    dataset, said = dataset_of(tmp_path, "user,item,rating", rows, stars_are="stars")
    assert "clicks" not in said
    assert (dataset.info.stars, dataset.info.stars_are) == (Scale(5, 5), "stars")
    assert set(values(dataset, "stars").values()) == {5}


def test_large_numbers_are_stars_when_asked(tmp_path: Path) -> None:
    rows = [f"u{i},p{i % 4},{i * 30}" for i in range(30)]
    dataset, _ = dataset_of(tmp_path, "user,item,rating", rows, stars_are="stars")
    assert dataset.info.stars == Scale(0, 870)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_ids_of_a_column_with_holes_are_whole_numbers(tmp_path: Path, kind: str) -> None:
    rows = [(float(i % 5) if i % 6 else None, float(100 + i), i % 5 + 1) for i in range(30)]
    file = tmp_path / f"reviews.{kind}"
    if kind == "parquet":
        pq.write_table(
            pa.table(dict(zip(("user", "item", "stars"), map(list, zip(*rows, strict=True)), strict=True))), file
        )
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"user": u, "item": p, "stars": s}) + "\n" for u, p, s in rows))
    else:
        file.write_text("user,item,stars\n" + "".join(f"{'' if u is None else u},{p},{s}\n" for u, p, s in rows))
    dataset = prepare(file, tmp_path / "out", PrepareConfig(max_rejects=1))
    assert set(dataset.customers["customer_id"].to_pylist()[1:]) == {"0", "1", "2", "3", "4"}
    assert "101" in dataset.products["product_id"].to_pylist()


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["17.0", "1e+07", "", "2.5e+06"], {"17", "10000000", "2500000"}),
        (["17", "1e+05", "100001"], {"17", "100000", "100001"}),  # as R writes them
        (["1.0E7", "17.0", "1.25E+10"], {"10000000", "17", "12500000000"}),  # as Java does
        (["17.0", "17.5"], {"17.0", "17.5"}),
        (["1e5", "17", "2e10"], {"1e5", "17", "2e10"}),
        (["17.0", "1e+07", "abc"], {"17.0", "1e+07", "abc"}),
        (["1e+99", "17.0"], {"1e+99", "17.0"}),
        (["007", "17"], {"007", "17"}),
    ],
)
@pytest.mark.parametrize("late", [0, 300])
def test_ids_are_whole_numbers_where_the_whole_column_is_of_them(
    tmp_path: Path, written: list[str], ids: set[str], late: int
) -> None:
    """Also where the last value comes after the rows that are looked at first."""
    users = [*written[:-1] * (1 + late), written[-1]]
    rows = [f"{user},p{i},{i % 5}" for i, user in enumerate(users)]
    dataset, _ = dataset_of(tmp_path, "user,item,rating", rows, max_rejects=0.9)
    assert set(dataset.customers["customer_id"].to_pylist()[1:]) == ids


def test_an_exponent_among_thousands_of_whole_numbers_is_one_too_unless_other_ids_are_text(tmp_path: Path) -> None:
    """R writes 100000 as 1e+05, and 100001 as it is."""
    rows = [f"{100001 + i},{i % 9},{i % 5}" for i in range(3_000)]
    for last, expected in (("1e+05", {"1e+05": False, "100000": True}), ("x", {"1e+05": True, "100000": False})):
        dataset, _ = dataset_of(tmp_path, "user,item,rating", [*rows, "1e+05,1,3", f"{last},2,3", "100005,1,2"])
        ids = set(dataset.customers["customer_id"].to_pylist())
        assert {name: name in ids for name in expected} == expected


def test_ids_that_are_floats_of_a_table_are_whole_numbers_however_large_and_nan_is_none(tmp_path: Path) -> None:
    users = [1e7, 1e16, 123456789.0, float("nan"), None, 17.0] * 3
    table = pa.table({"user": users, "item": [f"p{i}" for i in range(18)], "stars": [1.0, 2.0, 3.0] * 6})
    pq.write_table(table, tmp_path / "r.parquet")
    dataset = prepare(tmp_path / "r.parquet", tmp_path / "out", PrepareConfig(max_rejects=0.9, valid=0))
    assert dataset.info.counts.rejected == {"no customer": 6}
    expected = {"10000000", "10000000000000000", "123456789", "17"}
    assert set(dataset.customers["customer_id"].to_pylist()[1:]) == expected


NESTED = {"user": {"id": 17, "name": "Ann"}, "items": ["p1", "p2"], "item": "p1", "stars": 4}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("customer=user,product=item,stars=stars", r"holds records.*customer=user\.id"),
        ("customer=user.id,product=items,stars=stars", "holds lists, which are no product id"),
        ("customer=items,product=item,stars=stars", "holds lists, which are no customer id"),
    ],
)
def test_records_and_lists_are_no_ids_and_the_paths_that_are_stand_in_the_error(
    tmp_path: Path, kind: str, columns: str, said: str
) -> None:
    file = tmp_path / f"r.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(NESTED) + "\n" for _ in range(5)))
    else:
        pq.write_table(pa.Table.from_pylist([NESTED] * 5), file)
    with pytest.raises(AmzrecError, match=said):
        prepare(file, tmp_path / "out", PrepareConfig(columns=columns))
    config = PrepareConfig(columns="customer=user.id,product=item,stars=stars", test=0.0, stars_are="stars")
    dataset = prepare(file, tmp_path / "out", config)
    assert dataset.customers["customer_id"].to_pylist() == ["", "17"]


@pytest.mark.parametrize("product", ["i1", 1, np.int64(1), np.str_("i1")])
def test_ids_from_python_are_text_or_numbers(product: Any) -> None:
    assert given.texts_of(product) == [str(product)]
    assert given.texts_of([product, product]) == [str(product)] * 2
    assert given.texts_of(pd.DataFrame({"product_id": [product]})) == [str(product)]
    assert given.texts_of(np.array([product])) == [str(product)]


def test_an_id_that_is_nothing_is_an_error_and_whole_floats_are_whole_numbers() -> None:
    assert given.texts_of([17.0, np.float64(18)]) == ["17", "18"]
    wrongs: list[Any] = [None, 1.5, True, ["a"], {}]
    for wrong in wrongs:
        with pytest.raises(AmzrecError, match="allowed: text or a whole number"):
            given.text_of(wrong)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", [0, 40_000])
def test_refused_lines_have_their_number_whatever_ends_lines(tmp_path: Path, end: str, before: int) -> None:
    """A comment, a header, a blank line; then `before` good lines, and the bad ones begin two lines later."""
    lines = ["# mine", "user,item,rating", "", *(f"u{n},p{n % 99},{n % 5 + 1}" for n in range(before))]
    lines += ["a,p1,5", "short", "b,p2,4", "c,p3,none such", "", "d,p4,5,6", "e,p5,1"]
    (tmp_path / "r.csv").write_bytes(end.join(lines).encode() + end.encode())
    dataset = prepare(tmp_path / "r.csv", tmp_path / "d", PrepareConfig(max_rejects=0.9, valid=0))
    found = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    expected = [(5, "short"), (7, "c,p3,none such"), (9, "d,p4,5,6")]
    assert [(row["line"], row["text"]) for row in found] == [(before + n, text) for n, text in expected]


def test_one_windows_line_end_in_a_file_of_carriage_returns_is_one_line(tmp_path: Path) -> None:
    good = b"".join(b"u%d,p%d,%d\r" % (n, n % 99, n % 5 + 1) for n in range(40_000))
    (tmp_path / "r.csv").write_bytes(b"user,item,rating\r" + good + b"bad\r\nworse\r")
    dataset = prepare(tmp_path / "r.csv", tmp_path / "d", PrepareConfig(valid=0))
    assert pq.read_table(dataset.path / "rejects.parquet")["line"].to_pylist() == [40_002, 40_003]


def test_a_line_that_is_not_utf_8_is_refused_beside_dicts_of_python_too(tmp_path: Path) -> None:
    """The dict makes the file be read again; the other line must not come back as a customer with a changed id."""
    good = [b'{"user_id": "c%d", "asin": "p%d", "rating": %d}' % (n % 7, n % 5, n % 5 + 1) for n in range(40)]
    lines = [*good, b"{'user_id': 'zoe', 'asin': 'p1', 'rating': 4}", b'{"user_id": "\xff", "asin": "p1", "rating": 4}']
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    config = PrepareConfig(columns="customer=user_id,product=asin,stars=rating", encoding="utf-8", max_rejects=0.5)
    dataset = prepare(tmp_path / "r.jsonl", tmp_path / "d", config)
    found = pq.read_table(dataset.path / "rejects.parquet").to_pylist()
    assert [row["line"] for row in found] == [42]
    assert "zoe" in dataset.customers["customer_id"].to_pylist()


def test_stars_as_text_are_numbers_beside_one_that_is_none_and_marks_among_them_are_not_rated(tmp_path: Path) -> None:
    stars = ["4,5", "3,0", "2,5", "5,0"] * 10 + ["-1"] * 3 + ["terrible"]
    rows = [f"c{n % 9};p{n};{text}" for n, text in enumerate(stars)]
    dataset, said = dataset_of(tmp_path, "customer;product;stars", rows, max_rejects=0.5)
    found = [value for part in ("train", "valid", "test") for value in dataset.part(part).stars.tolist()]
    assert sum(np.isnan(value) for value in found) == 3
    assert {value for value in found if not np.isnan(value)} == {4.5, 3.0, 2.5, 5.0}
    assert dataset.info.counts.rejected == {"stars are no number": 1}
    assert "partly text" in said
    assert "taken for not rated" in said
