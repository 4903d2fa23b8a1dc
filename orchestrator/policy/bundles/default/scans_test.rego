package orchestrator.scans_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.scan as a_good_scan

document(scans) := object.union(prod, {"artifact": {"scans": scans}})

unmet(scans) := fixtures.unmet(document(scans))

scan(change) := object.union(a_good_scan, change)

test_no_scan if {
	unmet([]) == {"scan_missing"}
	unmet([scan({"scanner": "grype"})]) == {"scan_missing"}
	unmet([scan({"scanner": "Trivy"})]) == {"scan_missing"}
}

test_each_named_scanner_must_have_looked if {
	both := {"scans": {"scanners": ["trivy", "grype"]}}
	fixtures.unmet_with(prod, both) == {"scan_missing"}
	fixtures.unmet_with(document([a_good_scan, scan({"scanner": "grype"})]), both) == set()
	fixtures.unmet_with(document([a_good_scan, scan({"scanner": "grype", "finished_at": "2026-11-22T08:00:00Z"})]), both) == {"scan_stale"}
}

test_no_scanner_named_is_not_enough if {
	fixtures.unmet_with(prod, {"scans": {"scanners": []}}) == {"scan_missing"}
}

test_age_of_the_scan if {
	every time in ["2026-11-22T08:59:59Z", "2026-11-22T10:05:01Z"] {
		unmet([scan({"finished_at": time})]) == {"scan_stale"}
	}
	every time in ["2026-11-22T09:00:00Z", "2026-11-22T10:05:00Z", "2026-11-22T12:00:30+02:00"] {
		unmet([scan({"finished_at": time})]) == set()
	}
	unmet([scan({"finished_at": ""})]) == {"scan_stale"}
	fixtures.unmet_with(prod, {"scans": {"max_age_seconds": null}}) == {"scan_stale"}
}

test_the_newest_scan_counts_for_better_and_for_worse if {
	bad := scan({"counts": {"critical": 1}, "finished_at": "2026-11-22T09:40:00Z"})
	unmet([a_good_scan, bad]) == {"vulnerabilities_over_threshold"}
	unmet([scan({"finished_at": "2026-11-22T09:50:00Z"}), bad]) == set()
	unmet([scan({"finished_at": "2026-11-22T09:40:00Z"}), bad]) == {"vulnerabilities_over_threshold"}
	unmet([a_good_scan, object.union(bad, {"scanner": "grype"})]) == set()
	unmet([a_good_scan, scan({"scanner": "grype", "counts": {"critical": 1}})]) == set()
}

test_threshold_of_each_severity if {
	every counts in [{"critical": 1}, {"high": 2}, {"low": 10}, {"unknown": 1}] {
		unmet([scan({"counts": counts})]) == {"vulnerabilities_over_threshold"}
	}
	every counts in [{"high": 1}, {"medium": 1000}, {"low": 9}] {
		unmet([scan({"counts": counts})]) == set()
	}
}

test_counts_that_are_none if {
	every severity in ["critical", "medium", "unknown"] {
		unmet([scan({"counts": {severity: null}})]) == {"vulnerabilities_over_threshold"}
	}
	unmet([object.remove(a_good_scan, ["counts"])]) == {"vulnerabilities_over_threshold"}
}

test_thresholds_that_are_none if {
	fixtures.unmet_with(prod, {"scans": {"max": null}}) == {"vulnerabilities_over_threshold"}
	fixtures.unmet_with(prod, {"scans": {"max": {"low": "9"}}}) == {"vulnerabilities_over_threshold"}
}

found := [{"id": "CVE-1", "severity": "critical", "fixed": false}, {"id": "CVE-2", "severity": "high", "fixed": true}]

entry := {"id": "CVE-1", "owner": "team-shop", "reason": "not reachable", "expires_at": "2026-11-22T11:00:00Z"}

ignoring(entries) := fixtures.unmet_with(document([scan({"counts": {"critical": 1, "high": 2}, "found": found})]), {"scans": {"ignored": entries}})

test_an_ignored_finding_does_not_count_until_it_expires if {
	ignoring([]) == {"vulnerabilities_over_threshold"}
	ignoring([entry]) == {"vulnerabilities_over_threshold"}
	ignoring([entry, object.union(entry, {"id": "CVE-2"})]) == set()
	ignoring([object.union(entry, {"expires_at": "2026-11-22T10:00:00Z"}), object.union(entry, {"id": "CVE-2"})]) == {"vulnerabilities_over_threshold"}
}

test_somebody_answers_for_what_is_ignored if {
	every owner in ["", null, 7] {
		ignoring([object.union(entry, {"owner": owner}), object.union(entry, {"id": "CVE-2"})]) == {"vulnerabilities_over_threshold"}
	}
}

test_what_is_ignored_counts_in_its_own_severity if {
	document_of_two := document([scan({"counts": {"critical": 1, "high": 2}, "found": [{"id": "CVE-1", "severity": "high", "fixed": true}]})])
	fixtures.unmet_with(document_of_two, {"scans": {"ignored": [entry]}}) == {"vulnerabilities_over_threshold"}
}

test_where_no_scan_is_wanted if {
	fixtures.unmet_with(document([]), {"scans": {"required": false}}) == set()
	fixtures.unmet_with(document([scan({"counts": {"critical": 5}, "finished_at": "2026-11-20T10:00:00Z"})]), {"scans": {"required": false}}) == set()
	fixtures.unmet_with(document([]), {"scans": {"required": 0}}) == {"scan_missing"}
}
