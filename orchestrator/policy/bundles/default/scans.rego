# What scanners found. Each scanner that the environment names must have looked, lately, and found little enough.
package orchestrator.scans

import data.orchestrator.clock.before
import data.orchestrator.clock.moment
import data.orchestrator.clock.younger

codes := {"scan_missing", "scan_stale", "vulnerabilities_over_threshold"}

settings := data.orchestrator.environment.settings.scans

concerned if not settings.required == false

scanners := {name | some name in settings.scanners}

found := {scan.scanner | some scan in input.artifact.scans}

missing := scanners - found

unmet contains "scan_missing" if {
	concerned
	not all_there
}

all_there if {
	count(scanners) > 0
	count(missing) == 0
}

# The newest of each scanner. What was found before counts no more, be it better or worse.
newest contains scan if {
	some name in scanners
	latest := max({moment(scan.finished_at) | some scan in input.artifact.scans; scan.scanner == name})
	some scan in input.artifact.scans
	scan.scanner == name
	moment(scan.finished_at) == latest
}

fresh contains scan.scanner if {
	some scan in newest
	younger(scan.finished_at, settings.max_age_seconds)
}

stale := (scanners & found) - fresh

unmet contains "scan_stale" if {
	concerned
	not count(stale) == 0
}

# Counts less what the data ignores, by severity; null is no limit, and a severity without one has the limit 0.
excess contains {"scanner": scan.scanner, "severity": severity, "count": left, "limit": limit} if {
	some scan in newest
	some severity in ["critical", "high", "medium", "low", "unknown"]
	limit := object.get(settings.max, severity, 0)
	limit != null
	left := remaining(scan, severity)
	not within(left, limit)
}

within(left, limit) if {
	is_number(limit)
	left <= limit
}

remaining(scan, severity) := scan.counts[severity] - set_aside(scan, severity)

# Findings are gone through only where some may be ignored.
set_aside(scan, severity) := 0 if {
	count(ignored) == 0
} else := count([finding.id |
	some finding in scan.found
	finding.severity == severity
	finding.id in ignored
])

# Somebody answers for each, and none is for ever.
ignored contains entry.id if {
	some entry in settings.ignored
	is_string(entry.owner)
	entry.owner != ""
	before(entry.expires_at)
}

unmet contains "vulnerabilities_over_threshold" if {
	concerned
	not below_threshold
}

below_threshold if {
	is_object(settings.max)
	every scan in newest { counted(scan) }
	count(excess) == 0
}

counted(scan) if {
	every severity in ["critical", "high", "medium", "low", "unknown"] { is_number(scan.counts[severity]) }
}
