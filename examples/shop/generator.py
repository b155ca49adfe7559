"""Orders for a shop without a file: rows of the same shape, the same ones for the same seed.

They are rows, not orders, so that they take the same way into the shop as those of a real file.
Most are small; some are cancellations, some have no customer, a few write off stock at a price of
0, and now and then a wholesaler takes thousands of one thing.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from random import Random
from typing import NamedTuple

from .orders import Row

_FIRST_INVOICE = 536_365
_FIRST_DAY = datetime(2010, 12, 1, 8, 26)  # noqa: DTZ001  the file's times have no zone either

_COLOURS = ("RED", "WHITE", "IVORY", "PINK", "BLUE", "GREEN", "VINTAGE", "RETROSPOT", "SILVER")
_SHAPES = ("HEART", "STAR", "HANGING", "WOODEN", "METAL", "SET OF 6", "MINI", "KNITTED", "GLASS")
_THINGS = ("LANTERN", "T-LIGHT HOLDER", "HOT WATER BOTTLE", "CAKE STAND", "LUNCH BAG", "GIFT MUG")
_PRICES = ("0.42", "0.85", "1.25", "1.65", "2.1", "2.55", "2.95", "3.75", "4.25", "7.95", "12.75")
_PACKS = (1, 1, 1, 2, 2, 3, 4, 6, 6, 12, 12, 24, 48)
_ABROAD = ("Germany", "France", "EIRE", "Spain", "Norway", "Portugal", "Belgium", "Japan")


class _Article(NamedTuple):
    stock_code: str
    description: str
    price: str


class _Invoice(NamedTuple):
    """What differs between a sale, a cancellation, a write-off and a wholesale order."""

    prefix: str
    quantities: list[int]
    is_sale: bool = True


def generate_rows(orders: int, seed: int) -> Iterator[Row]:
    """Yield the rows of `orders` orders and cancellations, decided by `seed` alone."""
    random = Random(seed)
    catalogue = _make_catalogue(random)
    line, number, time = 2, _FIRST_INVOICE, _FIRST_DAY
    for _ in range(orders):
        for columns in _make_rows(random, catalogue, number, time):
            yield Row(line, line, columns)
            line += 1
        number += random.choice((1, 1, 1, 2))
        time += timedelta(minutes=random.randrange(10))


def _make_catalogue(random: Random) -> list[_Article]:
    """Return everything there is to buy, the best sellers first."""
    names = [" ".join(words) for words in product(_COLOURS, _SHAPES, _THINGS)]
    random.shuffle(names)
    codes = random.sample(range(20_000, 90_000), len(names))
    return [
        _Article(f"{code}{random.choice(('', '', '', 'A', 'B'))}", name, random.choice(_PRICES))
        for code, name in zip(codes, names, strict=True)
    ]


def _make_rows(
    random: Random, catalogue: list[_Article], number: int, time: datetime
) -> Iterator[list[str]]:
    prefix, quantities, is_sale = _make_invoice(random)
    is_guest = not is_sale or random.random() < 0.1
    customer = "" if is_guest else f"{random.randrange(12_346, 18_288)}.0"
    country = "United Kingdom" if random.random() < 0.9 else random.choice(_ABROAD)
    for quantity in quantities:
        # Squaring pulls towards 0, where the best sellers are.
        article = catalogue[int(random.random() ** 2 * len(catalogue))]
        description = article.description if is_sale else ""
        price = article.price if is_sale else "0.0"
        what = [f"{prefix}{number}", article.stock_code, description, str(quantity)]
        yield [*what, str(time), price, customer, country]


def _make_invoice(random: Random) -> _Invoice:
    dice = random.random()
    if dice < 0.02:
        return _Invoice("", [random.randrange(1_800, 3_000)])
    if dice < 0.05:
        return _Invoice("", [-random.randrange(1, 60)], is_sale=False)
    if dice < 0.18:
        return _Invoice("C", [-random.choice(_PACKS) for _ in range(random.randrange(1, 4))])
    return _Invoice("", [random.choice(_PACKS) for _ in range(random.randrange(1, 26))])
