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
	is_string(input.ticket.id)
	input.ticket.id != ""
	meant
	input.ticket.exists == true
}

meant if input.ticket.id == input.request.ticket

# A platform's job can name none: then it is the one that the message of the artifact's commit names, if the settings say so.
meant if input.request.ticket == ""

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
