#!/usr/bin/env python3
"""A TCP proxy whose answers arrive late, as those of a store far away do: late.py PORT TARGET_PORT SECONDS.

Until SIGUSR1 the answers arrive at once.
"""

import asyncio
import signal
import sys

BLOCK = 1 << 16
# Bytes under way in one direction of a connection: a whole part, so that the delay is no limit of the rate.
BLOCKS_UNDER_WAY = 512


async def carry(reader, writer, delay):
    """Every byte arrives `delay()` seconds later, in order."""
    loop = asyncio.get_running_loop()
    under_way = asyncio.Queue(BLOCKS_UNDER_WAY)

    async def deliver():
        while block := await under_way.get():
            due, data = block
            await asyncio.sleep(max(0, due - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()

    async def take():
        while data := await reader.read(BLOCK):
            await under_way.put((loop.time() + delay(), data))
        await under_way.put(None)

    await asyncio.gather(deliver(), take(), return_exceptions=True)


async def main(port, target, seconds):
    loop = asyncio.get_running_loop()
    late = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, late.set)

    async def connected(reader, writer):
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, to_writer, lambda: 0), carry(to_reader, writer, lambda: seconds if late.is_set() else 0))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
