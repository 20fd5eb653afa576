"""Other releases for the same loop: MeZO, differentially private ones and ablations. Imports no torch."""
