"""tests/benchmarks/simulation.py: the same fleet has the same fate, and small cases agree with arithmetic."""

from __future__ import annotations

import pytest

from benchmarks.simulation import AT_ONCE, COMMIT, ROUTES, Fleet, dollars, simulated


@pytest.mark.parametrize("route", ROUTES)
def test_a_fleet_simulated_twice_has_the_same_fate_and_another_seed_another_one(route: str) -> None:
    fleet = Fleet(route, 20, 60, hours=0.2, outage=(100, 300))
    assert simulated(fleet) == simulated(fleet)
    assert simulated(fleet) != simulated(Fleet(route, 20, 60, hours=0.2, outage=(100, 300), seed=2))


@pytest.mark.parametrize("route", ROUTES)
def test_a_box_alone_commits_once_a_cycle_without_a_conflict(route: str) -> None:
    outcome = simulated(Fleet(route, 1, 300, hours=2, jitter=0))
    assert outcome.commits == outcome.tries == len(outcome.delays) == 24
    assert outcome.failed == 0 and outcome.is_carried(300)
    assert outcome.middle == pytest.approx(COMMIT[route], rel=0.3)


def test_a_warehouse_carries_its_places_by_the_time_of_a_statement() -> None:
    outcome = simulated(Fleet("insert", 1000, 60, hours=0.5))
    assert outcome.a_minute == pytest.approx(AT_ONCE * 60 / COMMIT["insert"], rel=0.1)
    assert not outcome.is_carried(60)


def test_commits_to_one_table_get_into_each_others_way_and_to_ten_tables_do_not() -> None:
    one, ten = (simulated(Fleet("delta", 500, 60, tables, hours=0.1)) for tables in (1, 10))
    assert one.tries_each > 3 and not one.is_carried(60)
    assert ten.tries_each < 1.2 and ten.is_carried(60)


def test_a_region_that_was_cut_off_catches_up_within_the_longest_wait() -> None:
    outcome = simulated(Fleet("zerobus", 10, 60, hours=2, outage=(600, 4200)))
    assert 0 < outcome.recovered(4200, 180) <= 12 * 60 + 1
    assert max(age for _, age in outcome.moments) > 3600


def test_costs_are_those_of_the_guide() -> None:
    """docs/choosing-a-route.md, "What it costs"."""
    assert dollars(Fleet("delta", 500, 60)) == pytest.approx(440, rel=0.02)
    assert dollars(Fleet("zerobus", 500, 60)) == pytest.approx(39, rel=0.03)
    assert dollars(Fleet("insert", 500, 60, shares=2)) == pytest.approx(4100, rel=0.02)
