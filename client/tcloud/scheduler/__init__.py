"""SQLMesh's cloud scheduler: plans and runs go to a server, and are done by executors near the warehouse.

Importing this package makes `scheduler: {type: cloud}` known to SQLMesh.
"""

from tcloud.scheduler.config import EnterpriseConfig, RemoteCloudSchedulerConfig, install
from tcloud.scheduler.context import RemoteContext

__all__ = ["EnterpriseConfig", "RemoteCloudSchedulerConfig", "RemoteContext"]

install()
