"""moto's server, with one thing as EC2 has it: a terminated instance lets go of the interfaces that outlive it.

Usage: aws_simulator.py PORT
"""

import sys

from moto.ec2.models.instances import Instance
from moto.server import main

terminate = Instance.terminate


def terminate_and_detach(self):
    previous = terminate(self)
    for interface in self.nics.values():
        if not interface.delete_on_termination:
            interface.instance = None
            interface.attachment_id = None
            interface.status = "available"
    return previous


Instance.terminate = terminate_and_detach
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
