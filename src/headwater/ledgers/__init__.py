"""Ledgers: where exceptions to plain success are kept (`headwater.ledger`)."""
