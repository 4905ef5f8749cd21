"""Which column of a file is which of ours: as --columns says, or as the names themselves say."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.relation import in_order
from amzrec.reviews.sources.shape import LIST, RECORD, Shape
from amzrec.settings import pairs_text

OURS = {  # the names that --columns takes
    "customer": "customer_id",
    "product": "product_id",
    "parent": "product_parent",
    "title": "product_title",
    "category": "category",
    "stars": "stars",
    "timestamp": "timestamp",
}
IDS = ("customer_id", "product_id", "product_parent")
OF_PRODUCTS = {"product_id", "product_parent", "product_title"}  # one column may be several of these
# Names that columns have in files people have, in lower case without separators, the best first
SYNONYMS = {
    "customer_id": (
        "customerid", "userid", "reviewerid", "customer", "user", "reviewer", "uid", "profileid", "visitorid",
        "buyerid", "memberid", "accountid", "clientid", "personid", "authorid", "username", "customercode",
        "customerkey", "customerunique", "customeruniqueid", "customernumber", "customerno", "custid", "userkey",
        "usrid", "reviewername", "profilename", "reviewprofilename", "steamid", "authorsteamid", "playerid", "guestid",
        "studentid", "readerid", "subscriberid", "fromuser", "fromuserid", "msno", "buyer", "member", "client", "guest",
        "rater", "raterid", "reader", "kunde", "kundeid", "kundenid", "kundennummer", "nutzer", "nutzerid", "cliente",
        "clienteid", "idcliente", "usuario", "usuarioid", "idusuario", "utilisateur", "idutilisateur", "utente",
        "sessionid",
    ),
    "product_id": (
        "productid", "itemid", "asin", "movieid", "product", "item", "iid", "bookid", "isbn", "isbn13", "isbn10", "sku",
        "businessid", "articleid", "animeid", "mangaid", "gameid", "recipeid", "stockcode", "artistid", "trackid",
        "songid", "albumid", "venueid", "placeid", "poiid", "locationid", "hotelid", "restaurantid", "beerid",
        "beerbeerid", "wineid", "appid", "videoid", "newsid", "courseid", "jobid", "jokeid", "goodsid", "offerid",
        "listingid", "contentid", "showid", "eventid", "productcode", "itemcode", "productkey", "productnumber", "upc",
        "ean", "gtin", "movie", "book", "game", "song", "artist", "recipe", "anime", "article", "prodid", "productno",
        "productuuid", "toitem", "titleid", "seriesid", "podcastid", "postid", "petid", "propertyid", "toolid",
        "packageid", "repoid", "beer", "wine", "hotel", "restaurant", "venue", "place", "track", "album", "course",
        "listing", "beername", "winename", "hotelname", "restaurantname", "produkt", "produktid", "artikel",
        "artikelid", "artikelnummer", "producto", "productoid", "idproducto", "produit", "idproduit", "prodotto",
        "produto",
    ),
    "product_parent": ("productparent", "parentasin"),
    "product_title": (
        "producttitle", "itemtitle", "movietitle", "booktitle", "gametitle", "songtitle", "productname", "itemname",
        "moviename", "beername", "winename", "hotelname", "restaurantname", "venuename", "placename", "coursename",
        "bookname", "gamename", "animename", "artistname", "trackname", "businessname", "recipename", "proddescription",
        "prodname", "productdescription",
    ),
    "category": (
        "productcategory", "category", "maincategory", "itemcategory", "categoryname", "producttype", "producttypename",
    ),
    "stars": (
        "starrating", "stars", "rating", "overall", "score", "userrating", "bookrating", "reviewrating", "reviewscore",
        "reviewoverall", "ratingvalue", "ratingscore", "ratings", "userscore", "myrating", "gamerating", "movierating",
        "itemrating", "productrating", "customerrating", "reviewstars", "starsrating", "rate", "grade", "points",
        "bewertung", "sterne", "estrellas", "calificacion", "puntuacion", "valoracion", "etoiles", "voto", "avaliacao",
    ),
    "timestamp": (
        "timestamp", "unixreviewtime", "unixtime", "time", "reviewdate", "reviewtime", "date", "datetime", "createdat",
        "created", "ratedat", "reviewedat", "reviewtimestamp", "ratingtimestamp", "ratingdate", "invoicedate",
        "orderdate", "purchasedate", "purchasetime", "transactiondate", "transactiondt", "tdat", "submitted",
        "submittime", "eventtime", "visittime", "checkintime", "datetimeadded", "dateadded", "updatedat", "ts", "utc",
        "when",
    ),
}  # fmt: skip
# Of products in files of their own, where nothing else can be meant
CATALOGUE = {
    "product_id": ("id",),
    "product_title": ("title", "name", "label", "description"),
}
# RecBole writes user_id:token, exports of MongoDB {"user_id": {"$oid": "…"}}
TYPED = re.compile(r":(token|float|token_seq|float_seq)$|\.\$(oid|uuid|date|numberInt|numberLong|numberDouble)$")


def plain(name: str) -> str:
    """Return a column name in lower case without separators: `star_rating`, `Star Rating:float` → `starrating`."""
    return "".join(character for character in TYPED.sub("", name).lower() if character.isalnum())


def pairs_of(text: str) -> list[tuple[str, str]]:
    """Part `customer=UserId,product=ItemId` into (ours, theirs); a pair that holds a comma stands in quotes.

    Raises AmzrecError for what is no such pair, for a name that we do not know, and for one that comes twice.
    """
    pairs: dict[str, str] = {}
    try:
        listed_pairs = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise AmzrecError(f"--columns cannot be parted at its commas ({error}): write it in one line") from error
    for pair in listed_pairs:
        ours, equals, theirs = (piece.strip() for piece in pair.partition("="))
        if not equals or not theirs or ours not in OURS:
            raise AmzrecError(
                f"--columns has {pair!r}; write {'|'.join(OURS)}=COLUMN with commas between, "
                "such as customer=UserId,product=ItemId,stars=rating"
            )
        if ours in pairs:
            raise AmzrecError(f"--columns names {ours} twice ({pairs[ours]}, {theirs}): leave one of them out")
        pairs[ours] = theirs
    return list(pairs.items())


def named_columns(text: str, shape: Shape, path: Path | str) -> dict[str, str]:
    """Return our column → the file's for `customer=UserId,product=ItemId,stars=rating`; a number counts from 0.

    Raises AmzrecError for a name the file does not have (with the nearest one), for a column that is named twice or
    holds records or lists, and where customer or product lacks.
    """
    columns: dict[str, str] = {}
    for ours, wanted in pairs_of(text):
        theirs = column_named(ours, wanted, shape, path)
        for other, column in columns.items():
            if column == theirs and not {other, OURS[ours]} <= OF_PRODUCTS:
                first = next(name for name, column_of_ours in OURS.items() if column_of_ours == other)
                raise AmzrecError(f"--columns takes {theirs!r} for the {first} and for the {ours}: name two columns")
        columns[OURS[ours]] = theirs
    for ours in ("customer", "product"):
        if OURS[ours] not in columns:
            raise AmzrecError(f"--columns {text} names no {ours}: add {ours}=COLUMN")
    check_single(columns, shape, path)
    return columns


def column_named(ours: str, wanted: str, shape: Shape, path: Path | str) -> str:
    """Return the column of this name or number; raises AmzrecError, with the nearest name, where there is none."""
    names = shape.columns
    if wanted in names:
        return wanted
    if shape.names and wanted in (numbers := [str(number) for number in range(len(names))]):
        return names[numbers.index(wanted)]
    if len(alike := [name for name in names if name.lower() == wanted.lower()]) == 1:
        return alike[0]
    if shape.nested.get(wanted) == RECORD:
        inner = [f"{ours}={name}" for name in names if name.startswith(f"{wanted}.") and name not in shape.nested]
        raise AmzrecError(
            f"--columns names {wanted!r}, which holds records in {path}: name what you mean in them, "
            f"such as {' or '.join(inner[:3]) or 'another column'}"
        )
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else "."
    what = "columns" if shape.names else "columns, numbered for want of a header"
    raise AmzrecError(f"--columns names {wanted!r}, which {path} does not have{hint} Its {what}: {listed(names)}")


def check_single(columns: dict[str, str], shape: Shape, path: Path | str) -> None:
    """Raise AmzrecError where an id column holds lists: a list of customers is not one customer."""
    for ours in IDS:
        if shape.nested.get(columns.get(ours, "")) == LIST:
            raise AmzrecError(
                f"column {columns[ours]!r} of {path} holds lists, which are no {ours.replace('_', ' ')}: write one "
                "line per item first, or name another column with --columns"
            )


def without_header(shape: Shape, text: str) -> Shape:
    """Take the first line for a review too where --columns has numbers only, unless it has names that are known."""
    numbers = [theirs for _, theirs in pairs_of(text)]
    if not shape.names or len(guessed_columns(shape.names)) > 1 or not all(n.isdigit() for n in numbers):
        return shape
    return dataclasses.replace(shape, names=[])


def guessed_columns(names: Iterable[str], catalogue: bool = False) -> dict[str, str]:
    """Return our column → the file's, where the names say what they are; a parent alone is a product id.

    `catalogue`: the names are of a file of products, in which `id` and `title` are those of products.
    """
    names = list(names)
    by_plain = {plain(name): name for name in reversed(names)}
    by_plain = {plain(name.rpartition(".")[2]): name for name in reversed(names) if "." in name} | by_plain
    columns = {}
    for ours, synonyms in SYNONYMS.items():
        more = CATALOGUE.get(ours, ()) if catalogue else ()
        theirs = next((by_plain[s] for s in (*synonyms, *more) if s in by_plain), None)
        if theirs is not None:
            columns[ours] = theirs
    if "product_id" not in columns and "product_parent" in columns:
        columns["product_id"] = columns.pop("product_parent")
    return in_order(columns)


def rivals_of(names: Iterable[str], columns: dict[str, str]) -> dict[str, str]:
    """Return our column of ids → the first other column that is called an id of the same, where there is one.

    `columns` is what is used: our column → the file's.
    """
    free = {plain(name): name for name in reversed([*names]) if name not in columns.values()}
    rivals = dict[str, str]()
    for ours in ("customer_id", "product_id"):
        others = [free[word] for word in SYNONYMS[ours] if word in free and word.endswith("id")]
        if others and ours in columns:
            rivals[ours] = others[0]
    return rivals


def example(shape: Shape) -> str:
    """Return a --columns value for this file, to copy and mend: what is recognised, and other columns for the rest."""
    known = guessed_columns(shape.columns)
    others = [name for name in shape.columns if name not in known.values() and name not in shape.nested]
    likely = sorted(others, key=lambda name: not plain(name).endswith(("id", "code", "key", "name")))
    pairs = {}
    for ours in ("customer", "product", "stars"):
        if OURS[ours] in known:
            pairs[ours] = known[OURS[ours]]
        elif ours != "stars" or not shape.names:
            pairs[ours] = (likely if ours != "stars" else others).pop(0) if likely else "COLUMN"
            others = [name for name in others if name != pairs[ours]]
        elif others:
            pairs[ours] = others[0]
    return pairs_text(pairs)


def listed(names: list[str]) -> str:
    """Return names for a sentence, the first 40 of them, none longer than a line."""
    shown = [name if len(name) <= 60 else f"{name[:57]}…" for name in names[:40]]
    return ", ".join(shown) + (f" and {len(names) - 40:,} more" if len(names) > 40 else "")
