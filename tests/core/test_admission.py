"""Budgets: half per owner, refusals, and nothing kept by requests that have ended."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core.admission import Budget, ServerBusy


def test_an_owner_holds_half_and_others_the_rest() -> None:
    budget = Budget(10, "Room is taken.", retry_after=7)
    with budget.hold("a", 3), budget.hold("a", 2):
        with pytest.raises(ServerBusy, match=r"Room is taken\. Try again in 7 s\.") as caught:
            budget.hold("a", 1).__enter__()
        assert caught.value.retry_after == 7
        with budget.hold("b", 5), pytest.raises(ServerBusy), budget.hold("c", 1):
            pass
        with budget.hold("a"):  # it needs nothing
            pass
    assert (budget.held, budget.refused) == (0, 2)


def test_a_request_that_may_not_grow_keeps_its_part() -> None:
    budget = Budget(10)
    with budget.hold("a", 2) as take, budget.hold("a", 2):
        take(1)
        with pytest.raises(ServerBusy):
            take(1)
        assert budget.held == 5
    assert budget.held == 0


def test_a_lone_request_finds_room_whatever_it_needs() -> None:
    budget = Budget(10)
    with budget.hold("a", 1) as take:
        take(200)
        take(200)
        assert budget.held == 5
    with Budget(1).hold("a", 3):
        pass


def test_a_full_budget_is_noticed_before_a_request_is_read() -> None:
    budget = Budget(2)
    budget.check()
    with budget.hold("a", 1), budget.hold("b", 1), pytest.raises(ServerBusy):
        budget.check()


def test_many_threads_never_hold_more_than_there_is() -> None:
    budget, seen = Budget(8), []

    def request(owner: str) -> None:
        for _ in range(200):
            try:
                with budget.hold(owner, 2) as take:
                    take(1)
                    seen.append(budget.held)
            except ServerBusy:
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(request, "aabbccdd"))
    assert 0 < max(seen) <= 8
    assert budget.held == 0
