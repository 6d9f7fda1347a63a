"""The care of a run history: what is wrong with it, what nobody needs, what it takes up."""
