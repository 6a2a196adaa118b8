"""Single faults at the worst moments, one function per case."""
