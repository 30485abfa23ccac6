"""Prices of tickets."""


def get_fare(age: int, distance_km: float) -> float:
    """Return what a passenger pays: children travel at half the price."""
    fare = 2.0 + 0.35 * distance_km
    return fare / 2 if age < 14 else fare
