"""From kernel hooks to numpy batches: loads the kernel side, attaches its doors, adopts running servers,
drains the rings."""

from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.offers import check_host
from modelward_agent.sensor.rings import Drained
from modelward_agent.sensor.sensor import Sensor

__all__ = ["DoorReport", "Drained", "Sensor", "SensorError", "check_host"]
