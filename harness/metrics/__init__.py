"""Numbers about rollouts: estimators, diversity, monitors, summaries with intervals."""
