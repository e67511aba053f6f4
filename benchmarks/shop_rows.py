"""A made-up shop, as a person's own table: text, blanks, ids, labels that are not always known.

    python benchmarks/shop_rows.py FOLDER [--rows N]     # train.csv and test.csv

Who sees an offer clicks or not (``click``); whether he then buys (``buy``) is known of those who
clicked, and what he pays (``price_paid``) of those who bought. Users have tastes of their own, and
few of them are seen often, so that an id tells something that nothing else does. Nothing here is
taken from a real shop.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

COLUMNS = "user_id city device category age price referrer signup w click buy price_paid".split()
CITIES = np.array(
    "Berlin Lagos Lima Osaka Oslo Porto Quito Riga Seoul Turin Utrecht Vilnius 北京 上海".split()
    + ["Zürich", "New York, NY", 'The "Hague"', "São Paulo", "Kraków", ""]
)
DEVICES = np.array(["phone", "tablet", "desktop", "tv"])
CATEGORIES = np.array(
    [f"{kind} {size}" for kind in "shoes books games tea lamps".split() for size in "SML"]
)


class Shop:
    """Users, places and wares of a shop, and what they are worth to each other.

    Args:
        users: how many users there are.
        seed: of all that is drawn.
    """

    def __init__(self, users: int = 20_000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.users = users
        self.likes = rng.normal(0.0, 1.3, users)  # how much a user clicks
        self.spends = rng.normal(0.0, 1.0, users)  # how much he buys
        self.ages = np.where(rng.random(users) < 0.1, np.nan, rng.integers(16, 80, users))
        self.home = rng.choice(len(CITIES), users, p=_shares(len(CITIES)))
        self.signup = np.datetime64("2020-01-01") + rng.integers(0, 2000, users)
        self.of_city = rng.normal(0.0, 0.5, len(CITIES))
        self.of_device = np.array([0.4, 0.0, -0.2, -0.9])
        self.of_category = rng.normal(0.0, 0.7, (2, len(CATEGORIES)))
        self.referrers = np.array([f"site{number}" for number in range(400)] + [""])
        self.of_referrer = rng.normal(0.0, 0.4, len(self.referrers))

    def rows(self, number: int, seed: int) -> Iterator[list[str]]:
        """Draws rows, in the order of :data:`COLUMNS`; an empty text is not known."""
        rng = np.random.default_rng([seed, 1])
        once = rng.permutation(self.users)[: number // 2]  # many users are seen once or never
        user = rng.choice(self.users, number - len(once), p=_shares(self.users))
        user = rng.permutation(np.append(user, once))
        device = rng.choice(len(DEVICES), number, p=[0.6, 0.1, 0.25, 0.05])
        category = rng.integers(0, len(CATEGORIES), number)
        referrer = rng.choice(len(self.referrers), number, p=_shares(len(self.referrers)))
        price = np.round(np.exp(rng.normal(3.0, 0.8, number)), 2)
        weight = rng.choice([0.5, 1.0, 2.0, 3.5], number)
        age = self.ages[user]
        young = np.where(np.isnan(age), 0.3, (age < 30) * 0.8)
        cheap = (3.0 - np.log(price)) / 0.8
        likes = self.likes[user] + self.of_city[self.home[user]] + self.of_device[device]
        likes += self.of_category[0, category] + self.of_referrer[referrer] + 0.5 * cheap + young
        click = rng.random(number) < _sigmoid(likes - 1.8)
        wants = self.spends[user] - 0.9 * likes + self.of_category[1, category] - 0.8 * young
        buy = click & (rng.random(number) < _sigmoid(wants + 0.2 + 0.9 * cheap))
        paid = price * np.exp(0.25 * self.spends[user] + rng.normal(0.0, 0.1, number))
        for row in range(number):
            yield [
                f"u{user[row]:05d}",
                str(CITIES[self.home[user[row]]]),
                str(DEVICES[device[row]]),
                str(CATEGORIES[category[row]]),
                "" if np.isnan(age[row]) else f"{age[row]:.0f}",
                f"{price[row]:.2f}",
                str(self.referrers[referrer[row]]),
                str(self.signup[user[row]]),
                f"{weight[row]}",
                f"{click[row]:d}",
                f"{buy[row]:d}" if click[row] else "",
                f"{paid[row]:.2f}" if buy[row] else "",
            ]


def _shares(number: int) -> np.ndarray:
    """Few are seen often, most seldom."""
    shares = 1.0 / np.arange(3, number + 3)
    return shares / shares.sum()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def write_shop(folder: Path, rows: int = 50_000, seed: int = 0, users: int | None = None) -> None:
    """Writes ``train.csv``, ``rows`` of them, and ``test.csv``, a fifth as many.

    Args:
        folder: an existing folder.
        rows: number of training rows.
        seed: of all that is drawn.
        users: number of users; by default two for five training rows.
    """
    shop = Shop(rows * 2 // 5 if users is None else users, seed)
    for name, number, draw in (("train", rows, 1), ("test", rows // 5, 2)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(shop.rows(number, seed + draw))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=50_000, help="training rows (%(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_shop(arguments.folder, arguments.rows)
