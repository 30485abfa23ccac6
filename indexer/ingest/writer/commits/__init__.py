"""Operations on a collection, gathered into commits that one thread makes."""
