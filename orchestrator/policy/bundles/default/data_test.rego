# Held against the data that is really in the bundle: a mistake in it keeps the bundle from being loaded.
package orchestrator.data_test

import data.orchestrator.tiers

test_environments_are_complete if {
	data.environments.prod.strict == true
	data.environments.staging.strict == false
	every name, settings in data.environments {
		name != ""
		is_boolean(settings.strict)
		is_array(settings.approved_bases)
		is_array(settings.approved_isolation)
		is_array(settings.signers)
		is_array(settings.registries)
		is_array(settings.provenance.builders)
		is_object(settings.approvals.kinds)
		data.orchestrator.tiers.rank[settings.min_trust_tier]
		data.orchestrator.tiers.rank[settings.min_build_trust_tier]
		number(settings.max_duration_seconds, 1)
		number(settings.token_ttl_seconds, 10)
		number(settings.released.max_age_seconds, 0)
	}
}

groups := {"approvals", "provenance", "sbom_contents", "scans", "source", "ticket"}

test_groups_of_requirements_are_complete if {
	every settings in data.environments {
		every group in groups { complete(group, settings[group]) }
	}
}

complete(_, settings) if settings.required == false

complete("approvals", settings) if {
	settings.required == true
	every wanted in settings.kinds { number(wanted, 1) }
}

complete("provenance", settings) if {
	settings.required == true
	settings.min_level in [0, 1, 2, 3]
	number(settings.max_age_seconds, 1)
	is_boolean(settings.caches_allowed)
	is_boolean(settings.egress_refused_allowed)
}

complete("sbom_contents", settings) if {
	settings.required == true
	number(settings.min_components, 0)
	{"cyclonedx", "spdx"} & {format | some format in settings.formats} == {format | some format in settings.formats}
}

complete("scans", settings) if {
	settings.required == true
	count(settings.scanners) > 0
	number(settings.max_age_seconds, 1)
	object.keys(settings.max) == {"critical", "high", "medium", "low", "unknown"}
	every limit in settings.max { a_limit(limit) }
	is_array(settings.ignored)
}

complete("source", settings) if {
	settings.required == true
	is_boolean(settings.signed)
	is_boolean(settings.reviewed)
	is_array(settings.sensitive_repositories)
}

complete("ticket", settings) if {
	settings.required == true
	is_array(settings.projects)
	is_array(settings.types)
}

a_limit(limit) if limit == null

a_limit(limit) if number(limit, 0)

# Text is greater than any number, so that comparing alone is not enough.
number(value, least) if {
	is_number(value)
	value >= least
}

test_somebody_answers_for_what_is_ignored_until_a_date if {
	every settings in data.environments {
		every entry in object.get(settings.scans, "ignored", []) {
			entry.id != ""
			entry.owner != ""
			entry.reason != ""
			time.parse_rfc3339_ns(entry.expires_at) > 0
		}
	}
}

test_builders_of_others_are_complete if {
	every settings in data.environments {
		count({builder.id | some builder in settings.provenance.builders}) == count(settings.provenance.builders)
		every builder in settings.provenance.builders {
			builder.id != ""
			builder.issuer != ""
			endswith(builder.repository_prefix, "/")
			data.orchestrator.tiers.rank[builder.trust_tier]
		}
	}
}

test_modes_are_of_known_rules if {
	every settings in data.environments {
		every code, mode in settings.modes {
			code in data.orchestrator.controls.catalogue
			mode in {"enforce", "observe"}
		}
	}
}

test_exceptions_are_for_known_rules_that_may_be_set_aside if {
	number(data.exceptions.token_ttl_seconds, 10)
	object.keys(data.exceptions.waivable) == {"break_glass", "override"}
	every names in data.exceptions.waivable {
		every code in names {
			code in data.orchestrator.controls.catalogue
			not code in data.orchestrator.exceptions.never
		}
	}
}

test_tiers_that_may_have_secrets_are_known_and_not_the_strictest if {
	every tier in data.secrets.tiers {
		data.orchestrator.tiers.rank[tier]
		tier != "protected"
	}
}

# A strict environment lets nothing through that another one refuses.
test_strict_environments_are_no_looser if {
	every strict in data.environments {
		every other in data.environments {
			no_looser(strict, other)
		}
	}
}

no_looser(strict, _) if strict.strict == false

no_looser(_, other) if other.strict == true

no_looser(strict, other) if {
	among(strict.approved_bases, other.approved_bases)
	among(strict.approved_isolation, other.approved_isolation)
	among(other.signers, strict.signers)
	among(strict.provenance.builders, other.provenance.builders)
	tiers.at_least(strict.min_trust_tier, other.min_trust_tier)
	tiers.at_least(strict.min_build_trust_tier, other.min_build_trust_tier)
	strict.token_ttl_seconds <= other.token_ttl_seconds
	strict.max_duration_seconds <= other.max_duration_seconds
	every group in groups { group_no_looser(group, strict[group], other[group]) }
	every code, mode in strict.modes { mode_no_looser(code, mode, other) }
}

among(some_list, list) if {
	every value in some_list { value in list }
}

group_no_looser(_, _, other) if other.required == false

group_no_looser("approvals", strict, other) if {
	every kind, number in other.kinds { object.get(strict.kinds, kind, 0) >= number }
}

group_no_looser("provenance", strict, other) if {
	strict.required == true
	strict.min_level >= other.min_level
	strict.max_age_seconds <= other.max_age_seconds
	implied(strict.caches_allowed, other.caches_allowed)
	implied(strict.egress_refused_allowed, other.egress_refused_allowed)
}

group_no_looser("sbom_contents", strict, other) if {
	strict.required == true
	strict.min_components >= other.min_components
	among(strict.formats, other.formats)
}

group_no_looser("scans", strict, other) if {
	strict.required == true
	among(other.scanners, strict.scanners)
	strict.max_age_seconds <= other.max_age_seconds
	among(strict.ignored, other.ignored)
	every severity, limit in other.max { limit_no_higher(strict.max[severity], limit) }
}

group_no_looser("source", strict, other) if {
	strict.required == true
	implied(other.signed, strict.signed)
	implied(other.reviewed, strict.reviewed)
	among(other.sensitive_repositories, strict.sensitive_repositories)
}

group_no_looser("ticket", strict, other) if {
	strict.required == true
	narrower(strict.projects, other.projects)
	narrower(strict.types, other.types)
}

# If the one, then the other.
implied(one, _) if one == false

implied(_, other) if other == true

limit_no_higher(_, limit) if limit == null

limit_no_higher(ours, limit) if {
	is_number(ours)
	ours <= limit
}

# An empty list is any.
narrower(_, list) if list == []

narrower(some_list, list) if {
	some_list != []
	among(some_list, list)
}

mode_no_looser(_, mode, _) if mode == "enforce"

mode_no_looser(code, _, other) if other.modes[code] == "observe"

# What the other environment does not ask for at all may well be watched first in the strict one.
mode_no_looser(code, _, other) if {
	some group, codes in group_of
	code in codes
	other[group].required == false
}

mode_no_looser(code, _, _) if code == "source_unverified"

group_of := {
	"approvals": {"security_approval_missing", "approval_missing"},
	"provenance": {"provenance_level_too_low", "provenance_stale", "build_used_caches", "build_reached_out"},
	"sbom_contents": {"sbom_unfit"},
	"scans": {"scan_missing", "scan_stale", "vulnerabilities_over_threshold"},
	"source": {"commit_not_on_protected_branch", "commit_unsigned", "commit_unreviewed"},
	"ticket": {"ticket_missing", "ticket_unfit"},
}

test_audiences_are_complete if {
	every audience in data.audiences {
		is_array(audience.environments)
		data.orchestrator.tiers.rank[audience.min_trust_tier]
		number(audience.ttl_seconds, 10)
		audience.ttl_seconds <= 86400
		every environment in audience.environments {
			known(environment)
		}
	}
}

known(name) if name == ""

known(name) if is_object(data.environments[name])

test_no_audience_is_for_a_strict_environment_and_another if {
	every audience in data.audiences {
		not mixed(audience)
	}
}

mixed(audience) if {
	some name in audience.environments
	data.environments[name].strict == true
	count(audience.environments) > 1
}
