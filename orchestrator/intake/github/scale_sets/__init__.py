"""Jobs by runner scale sets: the Actions service, its message queue, the runners a set demands."""
