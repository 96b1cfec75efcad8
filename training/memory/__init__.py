"""What a run takes of a GPU's memory, foreseen before anything is loaded."""
