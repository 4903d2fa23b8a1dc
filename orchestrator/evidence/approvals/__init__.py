"""What people sign so that a job may go where it otherwise would not: approvals, and exceptions to the rules.

Everything here is a signed object with an end. Who signed is told by keys and tokens and never by the object itself;
who may sign what is told by the approvers' file; and every question is asked with the time as an argument.
"""
