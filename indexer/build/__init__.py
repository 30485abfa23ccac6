"""A build from start to end: plan what changed, embed it, commit it, and report."""
