"""Configuration of the cloud scheduler, for `config.py`."""

from tcloud.scheduler import EnterpriseConfig, RemoteCloudSchedulerConfig

__all__ = ["EnterpriseConfig", "RemoteCloudSchedulerConfig"]
