package orchestrator.ticket_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.untrue

unmet(change) := fixtures.unmet(object.union(prod, change))

test_no_ticket if {
	unmet({"request": {"ticket": ""}, "ticket": null}) == {"ticket_missing", "ticket_unfit"}
	unmet({"request": {"ticket": ""}, "ticket": {"id": ""}}) == {"ticket_missing"}
	unmet({"ticket": {"id": "REL-8"}}) == {"ticket_missing"}
	every value in untrue {
		unmet({"ticket": {"exists": value}}) == {"ticket_missing"}
	}
}

test_ticket_of_the_commit if {
	unmet({"request": {"ticket": ""}}) == set()
	unmet({"request": {"ticket": ""}, "ticket": {"id": null}}) == {"ticket_missing"}
	unmet({"request": {"ticket": ""}, "ticket": {"exists": false, "open": false}}) == {"ticket_missing", "ticket_unfit"}
}

test_closed_ticket if {
	every value in untrue {
		unmet({"ticket": {"open": value}}) == {"ticket_unfit"}
	}
}

test_ticket_of_another_project_or_type if {
	every project in ["OPS", "rel", "", null] {
		unmet({"ticket": {"project": project}}) == {"ticket_unfit"}
	}
	fixtures.unmet_with(prod, {"ticket": {"types": ["bug"]}}) == {"ticket_unfit"}
	fixtures.unmet_with(prod, {"ticket": {"types": ["bug", "release"]}}) == set()
	fixtures.unmet_with(prod, {"ticket": {"projects": null}}) == {"ticket_unfit"}
}

test_where_no_ticket_is_wanted if {
	document := object.union(prod, {"ticket": null})
	fixtures.unmet_with(document, {"ticket": {"required": false}}) == set()
	fixtures.unmet_with(document, {"ticket": {"required": 0}}) == {"ticket_missing", "ticket_unfit"}
}
