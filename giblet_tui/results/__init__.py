"""Results of runs: evaluation on the node and transfer to the laptop."""
