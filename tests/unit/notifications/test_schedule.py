from orchestrator.notifications.schedule import DELAYS, JITTER, LONGEST_PAUSE_SECONDS, SECOND, Schedule


def test_the_standards_schedule_from_seconds_to_days():
    plain = Schedule(lambda: 0.0)
    delays = [plain.retry_ns(attempts) for attempts in range(1, len(DELAYS) + 1)]
    assert [ns / SECOND for ns in delays] == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert plain.retry_ns(len(DELAYS) + 1) is None
    assert 3 * 86400 < sum(delays) / SECOND < 4 * 86400


def test_a_delay_is_spread():
    assert Schedule(lambda: 0.5).retry_ns(1) == int(5 * (1 + JITTER / 2) * SECOND)


def test_a_failing_endpoint_is_looked_at_again_within_minutes_or_when_it_wishes():
    plain = Schedule(lambda: 0.0)
    assert plain.pause_ns(1, None) == 5 * SECOND
    assert plain.pause_ns(50, None) == LONGEST_PAUSE_SECONDS * SECOND
    assert plain.pause_ns(1, 60.0) == 60 * SECOND
    assert plain.pause_ns(2, 1.0) == 300 * SECOND
    assert plain.pause_ns(1, 1e9) == 3600 * SECOND, "a wish is followed up to an hour"
