"""Training of Citewell's own small models, on sets of questions whose answers are marked in their passages."""
