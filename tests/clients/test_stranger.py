"""The resources that one anonymous address can make the server hold: the attacks of bench/stranger.py in small numbers, one after the other.

The wait of others meanwhile is measured by the bench itself, and asserted nowhere.
"""

import json
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parents[2] / "bench" / "stranger.py"
MIB = 1 << 20
# An attack in small numbers has at most 300 connections.
MOST = {"memory": 250 * MIB, "descriptors": 400, "threads": 32, "disk": 1024 * MIB}


@pytest.fixture(scope="module")
def rows():
    """The measurements, attack by attack."""
    run = subprocess.run([sys.executable, BENCH, "--quick", "--json"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_no_attack_ends_the_server_or_loses_what_others_publish(rows):
    assert len(rows) > 20
    assert [row["attack"] for row in rows if not row["alive"]] == []
    assert [(row["attack"], row["lost"]) for row in rows if row["lost"]] == []


@pytest.mark.parametrize("what", MOST)
def test_what_a_stranger_can_make_the_server_hold_is_bounded(rows, what):
    grown = [(row["attack"], row["peak"][what] - row["before"][what]) for row in rows]
    assert [(attack, much) for attack, much in grown if much > MOST[what]] == []


def test_bodies_that_never_come_whole_are_bounded_by_address(rows):
    for word in ("packets of 1 MB", "batches of 4 MB", "frames of 1 MB"):
        [row] = [row for row in rows if word in row["attack"]]
        # Twice `limits.unfinished_bytes_per_address` for each of two workers, since buffers grow by doubling.
        assert row["peak"]["memory"] - row["before"]["memory"] < 160 * MIB, row
