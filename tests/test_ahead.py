"""Groups played ahead: how old they may be, what is played again, and what a resumed run plays."""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from taskgym.agents.ahead import GroupsAhead
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.groups import DifferentStartsError

G, P, K = 3, 2, 2


class Player:
    """Ends episodes in any order, when it is asked; a second turn may come from a newer adapter."""

    def __init__(self, seed: int = 0, reward: Any = lambda start: float(start.member)):
        self.running: list[tuple[Start, int]] = []
        self.started: list[Start] = []
        self.version = 0
        self.chance = random.Random(seed)
        self.reward = reward
        self.start_hash = lambda start: str(start.seed)

    def start(self, starts: Iterable[Start]) -> None:
        for start in starts:
            self.started.append(start)
            self.running.append((start, self.version))

    def receive(self, timeout: float) -> list[Trajectory]:
        if not self.running:
            return []
        start, version = self.running.pop(self.chance.randrange(len(self.running)))
        t = Trajectory(start, self.start_hash(start), versions=[version, self.version])
        t.reward = self.reward(start)
        return [t]


def ahead(player: Player, steps: range = range(6), **options: Any) -> GroupsAhead:
    wanted = {
        "size": G,
        "per_step": P,
        "max_staleness": K,
        "max_fresh": lambda n: 0,
        "steps": steps,
    }
    groups = GroupsAhead(player, lambda n, attempt: (100 * n + attempt, None), **wanted | options)
    groups.fill(player.version)
    return groups


def step(player: Player, groups: GroupsAhead, lookahead: int = 1) -> None:
    """One step of a learner that reads some groups further before it gets a new version."""
    while not groups.over and groups.step <= player.version + (lookahead > 0):
        if groups.step > player.version and groups.taken.get(groups.step) is not None:
            break
        assert groups.take(5.0) is not None
    player.version += 1
    groups.fill(player.version)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_older_than_the_bound_for_the_step_that_learns_from_it(seed: int) -> None:
    player = Player(seed)
    groups = ahead(player, range(12))
    for _ in range(12):
        step(player, groups, lookahead=seed % 2)
    assert groups.over and groups.take(0.0) is None
    oldest: list[int] = []
    for number, taken in groups.taken.items():
        assert len(taken.numbers) == P and len(taken.gaps) == P * G
        told = [number - min(t.versions) for g in taken.played for t in g.trajectories]
        assert sorted(told) == sorted(taken.gaps)
        oldest += told
    assert max(oldest) <= K and max(oldest) > 0
    handed = [n for taken in groups.taken.values() for n in taken.numbers]
    assert sorted(handed) == list(range(12 * P)), "a group was lost, or learned from twice"


@pytest.mark.parametrize("lookahead", [0, 1])
def test_what_completes_in_order_is_never_too_old_and_never_waited_for(lookahead: int) -> None:
    player = Player()
    player.chance.randrange = lambda n: 0  # type: ignore[method-assign,assignment]
    groups = ahead(player, range(9))
    for version in range(9):
        assert len(player.started) == min(version + K + 1, 9) * P * G
        step(player, groups, lookahead)
    assert sum(taken.stale for taken in groups.taken.values()) == 0
    assert {gap for taken in groups.taken.values() for gap in taken.gaps} == {0, 1, K}


def test_nothing_is_begun_that_no_step_is_left_for() -> None:
    player = Player()
    groups = ahead(player, range(2))
    for _ in range(2):
        step(player, groups)
    assert len(player.started) == 2 * P * G and not player.running


def test_a_group_that_got_too_old_is_counted_and_played_again_from_its_start() -> None:
    player = Player()
    groups = ahead(player)
    late = [each for each in player.running if each[0].group == 0]
    player.running = [each for each in player.running if each[0].group != 0]
    for _ in range(K + 1):
        step(player, groups, lookahead=0)
    assert groups.step == K + 1 > K
    player.running = list(late)  # and nothing else, so that it comes next
    before = len(player.started)
    taken = groups.take(5.0)
    again = player.started[before : before + G]
    assert again == [start for start, _ in late], "it was not played again as it was"
    assert groups.taken[K + 1].stale == G
    assert taken is not None and taken.trajectories[0].start.group == 0
    assert all(K + 1 - min(t.versions) <= K for t in taken.trajectories)


@pytest.mark.parametrize("max_fresh", [0, 1, 3])
def test_groups_without_signal_are_replaced_as_often_as_their_number_allows(max_fresh: int) -> None:
    player = Player(reward=lambda start: 0.0)
    groups = ahead(player, range(3), max_fresh=lambda n: max_fresh if n % P else 0)
    for _ in range(3):
        step(player, groups)
    tried = Counter(start.seed // 100 for start in player.started if start.member == 0)
    assert tried == {n: 1 + max_fresh * (n % P) for n in range(3 * P)}
    for taken in groups.taken.values():
        kept = {group.trajectories[0].start.group: group for group in taken.played}
        assert sorted(kept) == sorted(taken.numbers), "a replaced group counts where it is learned"
        assert len(taken.played) == sum(tried[n] for n in taken.numbers)
        last = {n: group.trajectories[0].start.seed % 100 for n, group in kept.items()}
        assert last == {n: tried[n] - 1 for n in taken.numbers}


@pytest.mark.parametrize("seed", range(10))
def test_a_resumed_run_plays_exactly_what_was_not_learned_from(seed: int) -> None:
    player = Player(seed)
    groups = ahead(player)
    for _ in range(4):
        step(player, groups)
    learned = [n for s in range(3) for n in groups.taken[s].numbers]
    saved: Any = groups.unlearned(3)
    assert set(groups.taken[3].numbers) <= set(saved["unlearned"]), "read ahead is not learned from"
    player = Player(seed + 100)
    player.version = 3
    resumed = ahead(player, range(3, 6), **saved)
    for _ in range(3):
        step(player, resumed)
    learned += [n for taken in resumed.taken.values() for n in taken.numbers]
    assert sorted(resumed.taken) == [3, 4, 5]
    assert sorted(learned) == list(range(6 * P))


def test_members_that_start_differently_stop_the_run() -> None:
    player = Player()
    player.start_hash = lambda start: str(start.member)
    with pytest.raises(DifferentStartsError):
        ahead(player).take(5.0)


def test_waiting_ends_when_the_time_is_over() -> None:
    player = Player()
    player.receive = lambda timeout: []  # type: ignore[method-assign]
    assert ahead(player).take(0.01) is None
