"""Runners: what starts, stops and observes the instances of a flow."""
