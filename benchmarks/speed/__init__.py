"""How fast the operator is: against what the machine needs, and against other supervisors."""
