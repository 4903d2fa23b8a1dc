"""A support bundle: what somebody who helps has to know of an installation, without anything secret."""
