"""Which pod is which runner, whatever order the watch's news and our own calls come in."""

from __future__ import annotations

import json

from orchestrator.backends.kubernetes import registry as module
from orchestrator.backends.kubernetes.pod import Pod, read_pod, seconds
from orchestrator.backends.kubernetes.registry import Place, Registry
from orchestrator.backends.kubernetes.view import Limits
from orchestrator.backends.kubernetes.watch import Change
from orchestrator.model.runner import ExitCause, RunnerName, RunnerState

NAME = RunnerName("runner-1")


def pod(uid: str = "u1", name: str = "runner-1", phase: str = "Pending", **more) -> Pod:
    status = {"phase": phase} | more.pop("status", {})
    meta = {"name": name, "uid": uid, "resourceVersion": "1", **more}
    return read_pod(json.dumps({"metadata": meta, "status": status}).encode())


def known(*pods: Pod) -> Registry:
    made = Registry(Limits())
    for one in pods:
        made.apply("ns", Change(None, one), 0)
    return made


def test_what_was_made_is_known_before_the_watch_tells():
    one = known()
    one.made(NAME, Place("ns", "runner-1", "u1"))
    assert one.place(NAME) == Place("ns", "runner-1", "u1")
    assert one.find(NAME) is None
    one.apply("ns", Change(None, pod()), 0)
    assert one.find(NAME) == ("ns", pod())


def test_a_creations_answer_that_comes_after_the_pods_end_brings_nothing_back():
    one = known(pod())
    one.apply("ns", Change(pod(), None), 0)
    one.made(NAME, Place("ns", "runner-1", "u1"))
    assert one.place(NAME) is None
    assert one.last_of(one.gone(NAME), NAME).cause is ExitCause.DELETED


def test_news_of_an_older_pod_do_not_stand_for_the_one_just_made():
    one = known(pod("u1"))
    one.made(NAME, Place("ns", "runner-1", "u2"))
    assert one.find(NAME) is None
    assert one.place(NAME).uid == "u2"
    one.apply("ns", Change(pod("u1"), pod("u1", deletionTimestamp="2026-11-25T21:47:24Z")), 0)
    assert one.find(NAME) is None
    assert one.place(NAME).uid == "u2"
    one.apply("ns", Change(pod("u1"), None), 0)
    # Gone is the older one only, so nothing may be said of the name without asking.
    assert one.gone(NAME) is None
    assert one.place(NAME).uid == "u2"


def test_a_new_pod_of_the_name_makes_the_old_ones_end_forgotten():
    one = known(pod("u1"))
    one.apply("ns", Change(pod("u1"), None), 0)
    assert one.gone(NAME) is not None
    one.apply("ns", Change(None, pod("u2")), 0)
    assert one.gone(NAME) is None
    assert one.find(NAME)[1].uid == "u2"


def test_only_what_looks_different_is_told_and_ends_free_a_place():
    one = known()
    assert one.apply("ns", Change(None, pod()), 0) == (NAME, False)
    assert one.apply("ns", Change(pod(), pod(status={"podIP": "10.0.0.1"})), 0) is None
    ended = pod(phase="Succeeded")
    assert one.apply("ns", Change(pod(), ended), 0) == (NAME, True)
    assert one.apply("ns", Change(ended, None), 0) == (NAME, False)
    one.apply("ns", Change(None, pod("u2")), 0)
    assert one.apply("ns", Change(pod("u2"), None), 0) == (NAME, True)


def test_an_obstacle_counts_from_its_first_sight_in_a_row():
    waiting = [{"name": "job", "state": {"waiting": {"reason": "ErrImagePull"}}}]
    backing = [{"name": "job", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    one = known()
    first = pod(status={"containerStatuses": waiting})
    one.apply("ns", Change(None, first), 100)
    second = pod(status={"containerStatuses": backing})
    one.apply("ns", Change(first, second), 200)
    assert one.view(second, 300).pending.since_ns == 100
    one.apply("ns", Change(second, pod()), 400)
    assert one.view(first, 500).pending.since_ns == 500


def test_an_adopted_pod_is_its_runner_under_whatever_name():
    warm = pod("w1", "warm-1", labels={"orchestrator.dev/warm": "true"})
    one = known(warm)
    assert list(one.runners()) == []
    assert [kept.name for _, kept in one.warm()] == ["warm-1"]
    one.adopt(NAME, "w1")
    assert one.find(NAME) == ("ns", warm)
    assert one.find(RunnerName("warm-1")) is None
    assert one.place(NAME) == Place("ns", "warm-1", "w1")
    assert [kept.name for _, kept in one.runners()] == ["warm-1"]
    assert one.view(warm, 0).name == NAME
    assert one.apply("ns", Change(warm, None), 0) == (NAME, True)
    assert one.last_of(one.gone(NAME), NAME).state is RunnerState.ABSENT
    assert one.adopted_uid(NAME) == ""


def test_adoption_may_come_before_the_first_list():
    one = known()
    one.adopt(NAME, "w1")
    one.apply("ns", Change(None, pod("w1", "warm-1", labels={"orchestrator.dev/warm": "true"})), 0)
    assert one.find(NAME)[1].uid == "w1"


def test_memory_of_what_is_gone_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    one = known()
    for number in range(10):
        each = pod(f"u{number}", f"runner-{number}")
        one.apply("ns", Change(None, each), 0)
        one.apply("ns", Change(each, None), 0)
    assert [one.gone(RunnerName(f"runner-{number}")) is not None for number in (6, 7, 9)] == [False, True, True]
    assert len(one) == 0


def test_a_view_is_kept_only_for_the_same_news_and_the_same_name():
    first = pod("w", "warm-1")
    one = known(first)
    shown = one.view(first, 0)
    assert one.view(first, 5) is shown
    one.adopt(NAME, "w")
    assert one.view(first, 5).name == NAME
    ended = pod("w", "warm-1", "Succeeded")
    one.apply("ns", Change(first, ended), 5)
    assert (one.view(ended, 5).name, one.view(ended, 5).state) == (NAME, RunnerState.EXITED)
    assert one.view(first, 5).state is RunnerState.ALIVE
    one.apply("ns", Change(ended, None), 5)
    assert one._views == {}


def test_a_pod_that_this_process_made_is_no_news_while_it_just_lives():
    one = Registry(Limits())
    one.made(NAME, Place("ns", "runner-1", "u1"))
    assert one.apply("ns", Change(None, pod()), 0) is None
    assert one.find(NAME) == ("ns", pod())
    assert one.apply("ns", Change(pod(), pod(phase="Succeeded")), 0) == (NAME, True)


def test_what_nobody_here_made_or_what_does_not_just_live_is_news_at_first_sight():
    assert Registry(Limits()).apply("ns", Change(None, pod()), 0) == (NAME, False)
    another = Registry(Limits())
    another.made(NAME, Place("ns", "runner-1", "u0"))
    assert another.apply("ns", Change(None, pod()), 0) == (NAME, False)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    for shown in (pod(phase="Failed"), pod(status={"conditions": [condition]})):
        mine = Registry(Limits())
        mine.made(NAME, Place("ns", "runner-1", "u1"))
        assert mine.apply("ns", Change(None, shown), 0) == (NAME, False)


def test_a_place_alone_is_no_news_and_the_next_look_sees_it():
    at = "2026-11-25T21:47:24Z"
    placed = pod(status={"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]})
    one = known(pod())
    assert one.apply("ns", Change(pod(), placed), 0) is None
    assert one.view(placed, 0).placed_at_ns == seconds(at) * 10**9
