"""What the mesh can do on this machine, each figure beside its limit from the same run."""
