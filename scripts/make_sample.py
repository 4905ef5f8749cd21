"""Make the embedded sample: invented outdoor reviews whose right answers are known.  python scripts/make_sample.py

Writes data/sample (tf.data.Dataset.save, uncompressed, element {'data': {the 15 fields of amazon_us_reviews}}) and
data/sample.json (what was planted). Same seed, same bytes. Takes a few seconds.

What is planted:
  group    every product belongs to one activity; a customer draws OWN of the reviewed products from the own activity,
           within an activity by a power law of popularity
  stars    round(MEAN + customer bias + product bias + TASTE * taste * style - ABROAD outside the own activity + noise),
           clipped to 1..5; taste is -1 or 1 (a customer likes light or comfortable things), style is -1..1 and shows in
           the title
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
SEED = 20150831
CUSTOMERS = 1400
PER_GROUP = 80  # products of one activity
HEAVY = 0.34  # share of the customers with 8 to 24 reviews; the others have one or two
OWN = 0.85  # share of a customer's draws that fall on the own activity
ZIPF = 0.9  # popularity of the i-th product of an activity ~ i ** -ZIPF
MEAN, CUSTOMER_SD, PRODUCT_SD, TASTE, ABROAD, NOISE_SD = 4.0, 0.7, 0.35, 0.7, 0.4, 0.4  # stars

THINGS = {
    "Hiking": "Tent|Sleeping Bag|Backpack|Trekking Poles|Headlamp|Camp Stove|Water Filter|Sleeping Pad|Rain Jacket|"
    "Trail Shoes|Dry Sack|Bivy Shelter|Cook Set|Down Quilt|Gaiters|Camp Chair",
    "Climbing": "Harness|Climbing Rope|Belay Device|Carabiner Set|Climbing Shoes|Chalk Bag|Crash Pad|Helmet|"
    "Quickdraw Set|Cam Set|Sling Pack|Rope Bag|Belay Glasses|Ascender|Nut Tool|Hangboard",
    "Paddling": "Kayak Paddle|Life Vest|Spray Skirt|Kayak Cart|Canoe Seat|Deck Bag|Paddle Board|Bilge Pump|"
    "Paddle Float|Wetsuit|Water Shoes|Splash Top|Rooftop Rack|Throw Rope|Anchor Kit|Paddling Gloves",
    "Cycling": "Bike Helmet|Saddle|Bike Light|Floor Pump|Pannier|Bib Shorts|Cycling Gloves|Bike Lock|Handlebar Bag|"
    "Pedals|Bottle Cage|Repair Stand|Tire Set|Cycling Jersey|Multi Tool|Bike Computer",
    "Skiing": "Ski Goggles|Ski Poles|Ski Helmet|Base Layer|Ski Gloves|Avalanche Probe|Boot Bag|Ski Socks|Snowshoes|"
    "Ski Pants|Ski Bag|Snow Shovel|Boot Dryer|Neck Gaiter|Skins|Touring Pack",
}
BRANDS = ["Tarnwick", "Orvane", "Kelspur", "Brackenfell", "Nordhale", "Sundrop & Pine", "Velloway", "Quarrymoor"]
LIGHT = ["Ultralight", "Minimalist", "Featherweight", "Race"]  # style below -1/3
PLAIN = ["Classic", "Everyday", "All-Round", "Trail"]
COMFORT = ["Comfort", "Deluxe", "Plush", "Expedition"]  # style above 1/3
HEADLINES = ["Broke at once", "Disappointed", "It is okay", "Good, not perfect", "Love it"]
BODIES = [
    "Failed on day one. Sent it back.",
    "Hoped for more at this price.",
    "Does the job, nothing special.",
    "Solid, with one small flaw.",
    "Best one I have owned so far.",
]
GROUPS = list(THINGS)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def expected_stars(latent: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of clip(round(latent + noise), 1, 5), by the share of the noise between two half stars."""
    edges = np.array([1.5, 2.5, 3.5, 4.5])
    cdf = 0.5 * (1 + np.vectorize(math.erf)((edges - latent[..., None]) / (NOISE_SD * math.sqrt(2))))
    share = np.diff(cdf, axis=-1, prepend=0.0, append=1.0)  # [..., 5]
    mean = share @ np.arange(1.0, 6.0)
    return mean, share @ np.arange(1.0, 6.0) ** 2 - mean**2


def latent_stars(customers: dict[str, Any], products: dict[str, Any], c: Ints, p: Ints) -> Floats:
    """Stars before noise, rounding and clipping, of aligned customers c and products p."""
    abroad = customers["group"][c] != products["group"][p]
    taste = TASTE * customers["taste"][c] * products["style"][p]
    return np.asarray(MEAN + customers["bias"][c] + products["bias"][p] + taste - ABROAD * abroad, float)


def draw_shares(products: dict[str, Any]) -> Floats:
    """[groups, products] probability of a customer's next draw, before leaving out what is reviewed already."""
    group, popularity = products["group"], products["popularity"]
    within = popularity / np.bincount(group, popularity)[group]
    own = np.arange(len(GROUPS))[:, None] == group[None, :]
    return np.asarray(np.where(own, OWN, (1 - OWN) / (len(GROUPS) - 1)) * within, float)


def make_products(rng: np.random.Generator) -> dict[str, Any]:
    """Arrays over products: group, popularity, bias, style, and the texts that show group and style."""
    group = np.repeat(np.arange(len(GROUPS)), PER_GROUP)
    popularity = np.concatenate([rng.permutation(np.arange(1, PER_GROUP + 1) ** -ZIPF) for _ in GROUPS])
    style = rng.uniform(-1, 1, len(group))
    titles: list[str] = []
    for number, (g, s) in enumerate(zip(group, style, strict=True)):
        things = THINGS[GROUPS[g]].split("|")
        words = LIGHT if s < -1 / 3 else COMFORT if s > 1 / 3 else PLAIN
        title = f"{rng.choice(BRANDS)} {rng.choice(words)} {things[number % len(things)]}"
        while title in titles:
            title = f"{rng.choice(BRANDS)} {rng.choice(words)} {things[number % len(things)]}"
        titles.append(title)
    letters = list("0123456789ABCDEFGHJKLMNPQRSTUVWX")
    return {
        "id": np.array(["Z0" + "".join(rng.choice(letters, 8)) for _ in group]),
        "parent": rng.choice(10**9, len(group), replace=False),
        "title": np.array(titles),
        "group": group,
        "popularity": popularity,
        "bias": rng.normal(0, PRODUCT_SD, len(group)).round(4),
        "style": style.round(4),
    }


def make_customers(rng: np.random.Generator) -> dict[str, Any]:
    """Arrays over customers: group, bias, taste, and how many products each reviews."""
    heavy = rng.random(CUSTOMERS) < HEAVY
    return {
        "id": np.array([f"{n:08}" for n in rng.choice(10**8, CUSTOMERS, replace=False)]),
        "group": rng.integers(0, len(GROUPS), CUSTOMERS),
        "bias": rng.normal(0, CUSTOMER_SD, CUSTOMERS).round(4),
        "taste": rng.choice([-1.0, 1.0], CUSTOMERS),
        "reviews": np.where(heavy, rng.integers(8, 25, CUSTOMERS), rng.integers(1, 3, CUSTOMERS)),
    }


def make_reviews(rng: np.random.Generator, customers: dict[str, Any], products: dict[str, Any]) -> dict[str, Any]:
    """The 15 columns, a customer never reviews a product twice; rows by date."""
    shares = draw_shares(products)
    pairs = [
        (c, p)
        for c, count in enumerate(customers["reviews"])
        for p in rng.choice(shares.shape[1], count, replace=False, p=shares[customers["group"][c]])
    ]
    c, p = np.array(pairs).T
    latent = latent_stars(customers, products, c, p)
    stars = np.clip(np.rint(latent + rng.normal(0, NOISE_SD, len(c))), 1, 5).astype(np.int32)
    day = np.sort((np.sqrt(rng.random(len(c))) * 1300).astype(int))  # more reviews every year, to 2015
    order = rng.permutation(len(c))
    c, p, stars = c[order], p[order], stars[order]
    votes = rng.poisson(0.6, len(c)).astype(np.int32)
    dates = np.datetime64("2012-02-09") + day
    review_ids = ["R" + "".join(code) for code in rng.choice(list("0123456789ABCDEFGHJK"), (len(c), 12))]
    return {
        "marketplace": ["US"] * len(c),
        "customer_id": customers["id"][c].tolist(),
        "review_id": review_ids,
        "product_id": products["id"][p].tolist(),
        "product_parent": [str(parent) for parent in products["parent"][p]],
        "product_title": products["title"][p].tolist(),
        "product_category": [GROUPS[g] for g in products["group"][p]],
        "star_rating": stars,
        "helpful_votes": rng.binomial(votes, 0.7).astype(np.int32),
        "total_votes": votes,
        "vine": (rng.random(len(c)) > 0.01).astype(np.int64),  # class label: 0 = Y, 1 = N
        "verified_purchase": (rng.random(len(c)) > 0.9).astype(np.int64),
        "review_headline": [HEADLINES[s - 1] for s in stars],
        "review_body": [BODIES[s - 1] for s in stars],
        "review_date": [str(date) for date in dates],
    }


def write_truth(customers: dict[str, Any], products: dict[str, Any], file: Path) -> None:
    """What was planted, as JSON with a line for each customer and product."""

    def table(columns: list[Any]) -> str:
        lines = [f"{json.dumps(row[0])}: {json.dumps(row[1:])}" for row in zip(*columns, strict=True)]
        return "{\n" + ",\n".join(lines) + "\n}"

    people = [customers[name].tolist() for name in ("id", "group", "bias", "taste")]
    things = [products[name].tolist() for name in ("id", "group", "bias", "style")]
    things.append(products["popularity"].round(5).tolist())
    columns = {"customers": ["group", "bias", "taste"], "products": ["group", "bias", "style", "popularity"]}
    file.write_text(
        f'{{"made_by": "scripts/make_sample.py", "seed": {SEED}, "groups": {json.dumps(GROUPS)},\n'
        f'"columns": {json.dumps(columns)},\n"customers": {table(people)},\n"products": {table(things)}}}\n'
    )


def save(columns: dict[str, Any], folder: Path) -> None:
    """Save as the Amazon notebook loads it; the run number, the time and the order of keys are made the same always."""
    import tensorflow as tf
    from tensorflow.core.protobuf import snapshot_pb2, struct_pb2

    shutil.rmtree(folder, ignore_errors=True)
    tf.data.Dataset.from_tensor_slices({"data": columns}).save(str(folder), compression=None)
    (run,) = [path for path in folder.iterdir() if path.is_dir()]
    run.rename(folder / "0")
    record = snapshot_pb2.SnapshotMetadataRecord.FromString((folder / "snapshot.metadata").read_bytes())
    record.run_id, record.creation_timestamp = "0", 0
    (folder / "snapshot.metadata").write_bytes(record.SerializeToString(deterministic=True))
    spec = struct_pb2.StructuredValue.FromString((folder / "dataset_spec.pb").read_bytes())
    (folder / "dataset_spec.pb").write_bytes(spec.SerializeToString(deterministic=True))


def make(folder: Path) -> None:
    """Write `folder`/sample and `folder`/sample.json."""
    rng = np.random.default_rng(SEED)
    products, customers = make_products(rng), make_customers(rng)
    columns = make_reviews(rng, customers, products)
    save(columns, folder / "sample")
    write_truth(customers, products, folder / "sample.json")
    print(f"{len(columns['customer_id']):,} reviews in {folder / 'sample'}")


if __name__ == "__main__":
    make(ROOT / "data")
