"""The application: each question is put to the database and the cache, over each of their addresses."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis


def addresses(name):
    return sorted({found[4][0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            body = "app_up 1\n" if self.path == "/metrics" else self.work()
            self.send_response(200)
        except Exception as error:
            body = f"{error}\n"
            self.send_response(500)
        self.end_headers()
        self.wfile.write(body.encode())

    def work(self):
        asked = []
        for address in addresses("db"):
            database = psycopg2.connect(host=address, user="app", dbname="postgres", connect_timeout=3)
            with database, database.cursor() as cursor:
                cursor.execute("SELECT 6 * 7")
                assert cursor.fetchone() == (42,)
            database.close()
            asked.append(address)
        for address in addresses("cache"):
            cache = redis.Redis(host=address, socket_timeout=3, socket_connect_timeout=3)
            cache.incr("hits")
            cache.close()
            asked.append(address)
        return " ".join(asked) + "\n"


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


Server(("::", 8000), Handler).serve_forever()
