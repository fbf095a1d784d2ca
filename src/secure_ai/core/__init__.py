"""Values that every layer shares: errors, findings, rates, trust, statistics, budgets, events, seeds, compute."""
