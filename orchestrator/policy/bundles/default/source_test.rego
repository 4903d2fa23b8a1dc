package orchestrator.source_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.outside
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.untrue

unmet(change) := fixtures.unmet(object.union(prod, {"source": change}))

strictly(change) := fixtures.unmet_with(object.union(prod, {"source": change}), {"source": {"signed": true, "reviewed": true}})

test_not_on_a_protected_branch if {
	every value in untrue {
		unmet({"protected": value}) == {"commit_not_on_protected_branch"}
	}
	unmet(null) == {"commit_not_on_protected_branch"}
}

test_facts_of_another_commit if {
	every change in [{"commit": "decade"}, {"commit": ""}, {"commit": null}, {"repository_id": "43"}, {"repository_id": null}] {
		unmet(change) == {"commit_not_on_protected_branch"}
		strictly(change) == {"commit_not_on_protected_branch", "commit_unreviewed", "commit_unsigned"}
	}
}

test_a_build_without_a_commit if {
	every commit in ["", null, 7] {
		document := object.union(prod, {"source": {"commit": commit}, "artifact": {"built": {"sha": commit}}})
		fixtures.unmet(document) == {"commit_not_on_protected_branch"}
	}
}

test_facts_of_another_builders_commit if {
	document := object.union(outside, {"source": {"repository": "acme/other"}})
	fixtures.unmet(document) == {"commit_not_on_protected_branch"}
	renamed := object.union(prod, {"source": {"repository": "acme/renamed"}})
	fixtures.unmet(renamed) == set()
}

test_ours_is_held_to_the_id if {
	document := object.union(prod, {"source": {"repository_id": "43", "repository": "acme/shop"}})
	fixtures.unmet(document) == {"commit_not_on_protected_branch"}
}

test_unsigned_commit if {
	every value in untrue {
		strictly({"commit_verified": value}) == {"commit_unsigned"}
	}
	unmet({"commit_verified": false}) == set()
}

test_unreviewed_commit if {
	every value in untrue {
		strictly({"reviewed": value}) == {"commit_unreviewed"}
		strictly({"merged": value}) == {"commit_unreviewed"}
	}
	unmet({"reviewed": false}) == set()
}

test_what_the_data_leaves_out_is_demanded if {
	document := object.union(prod, {"source": {"commit_verified": false, "reviewed": false}})
	every value in [true, null, 0] {
		fixtures.unmet_with(document, {"source": {"signed": value, "reviewed": value}}) == {"commit_unreviewed", "commit_unsigned"}
		fixtures.unmet_with(object.union(prod, {"source": null}), {"source": {"required": value}}) == {"commit_not_on_protected_branch"}
	}
	fixtures.unmet_with(object.union(prod, {"source": null}), {"source": {"required": false, "signed": true, "reviewed": true}}) == set()
}

test_sensitive_repositories if {
	document := object.union(prod, {"source": {"commit_verified": false, "reviewed": false}})
	every names in [["acme/shop"], ["42"], ["other", "42"]] {
		fixtures.unmet_with(document, {"source": {"sensitive_repositories": names}}) == {"commit_unreviewed", "commit_unsigned"}
	}
	every names in [["acme/other"], [], ["4"]] {
		fixtures.unmet_with(document, {"source": {"sensitive_repositories": names}}) == set()
	}
}
