"""Configurations of projects that a stack schedules."""

__all__ = ["scheduled_config"]


def scheduled_config(start: str) -> str:
    """A `config.yaml` for the stack's own warehouse, with daily models that begin at a day."""
    return f"""
gateways:
  warehouse:
    scheduler: {{type: cloud}}
default_gateway: warehouse
model_defaults: {{dialect: postgres, start: {start}, cron: '@daily'}}
"""
