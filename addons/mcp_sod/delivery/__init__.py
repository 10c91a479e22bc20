"""Delivery: results that go to another person than their sender, who gets a receipt."""
