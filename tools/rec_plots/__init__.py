"""Pictures of runs: what their folders hold, as curves and histograms, in Chinese or English."""
