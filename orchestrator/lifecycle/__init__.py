"""What happens to each job, from its offer to verified gone: a pure `decide` under a thin shell."""
