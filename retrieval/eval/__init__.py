"""Search quality: test queries asked of a search, measured, compared and reported."""
