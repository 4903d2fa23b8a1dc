# The release ticket, as its tracker knows it.
package orchestrator.ticket

codes := {"ticket_missing", "ticket_unfit"}

settings := data.orchestrator.environment.settings.ticket

concerned if not settings.required == false

unmet contains "ticket_missing" if {
	concerned
	not known
}

known if {
	input.request.ticket != ""
	input.ticket.id == input.request.ticket
	input.ticket.exists == true
}

unmet contains "ticket_unfit" if {
	concerned
	not fit
}

fit if {
	input.ticket.open == true
	any_or_listed(input.ticket.project, settings.projects)
	any_or_listed(input.ticket.type, settings.types)
}

any_or_listed(_, list) if list == []

any_or_listed(value, list) if value in list
