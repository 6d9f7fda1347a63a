"""What hpcrun costs, as ratios against a floor that is measured in the same run. Never a test."""
