package orchestrator.workload_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.digest
import data.orchestrator.fixtures_test.prod

unmet(change) := fixtures.unmet(object.union(fixtures.deployment(prod), {"workload": change}))

image(name) := concat("@", [name, digest])

test_privileged if {
	every value in [true, null, 0, "false"] {
		unmet({"privileged": value}) == {"privileged"}
	}
}

test_images_by_digest if {
	every name in ["registry.test.example/shop/app", "registry.test.example/shop/app:1", "registry.test.example/shop/app@sha256:11"] {
		unmet({"images": [name]}) == {"image_not_pinned"}
		unmet({"images": [image("registry.test.example/shop/app"), name]}) == {"image_not_pinned"}
	}
}

test_images_of_approved_registries if {
	every name in ["registry.test.example.evil.example/shop/app", "registry.test.example/shopping/app", "app", "registry.test.example/shop"] {
		unmet({"images": [image(name)]}) == {"registry_not_approved"}
		unmet({"images": [image("registry.test.example/shop/app"), image(name)]}) == {"registry_not_approved"}
	}
	fixtures.unmet_with(fixtures.deployment(prod), {"registries": []}) == {"registry_not_approved"}
	fixtures.unmet_with(fixtures.deployment(prod), {"registries": ["registry.test.example/"]}) == set()
}

test_no_images if unmet({"images": []}) == {"image_not_pinned", "registry_not_approved"}

test_no_workload if {
	unmet(null) == {"image_not_pinned", "privileged", "registry_not_approved"}
	every document in [prod, fixtures.check(prod)] {
		fixtures.unmet(document) == set()
	}
}
