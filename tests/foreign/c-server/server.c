/* A TCP server as C programs have them: one thread, poll, and sockets that never block. It gives each line back in capitals. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 8 };

static int listener(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_ANY)};
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, CLIENTS) != 0) {
        perror("listen");
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Answers what has come; 0 where the client has left. */
static int answer(int fd) {
    char text[512];
    ssize_t count = recv(fd, text, sizeof text, 0);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 1;
    if (count <= 0) return 0;
    for (ssize_t i = 0; i < count; i++) text[i] = toupper((unsigned char)text[i]);
    return send(fd, text, count, 0) == count;
}

int main(void) {
    struct pollfd polled[1 + CLIENTS] = {{.fd = listener(7000), .events = POLLIN}};
    nfds_t used = 1;
    if (polled[0].fd < 0) return 1;
    printf("listening\n");
    fflush(stdout);
    for (;;) {
        if (poll(polled, used, -1) < 0) {
            perror("poll");
            return 1;
        }
        for (nfds_t i = used - 1; i > 0; i--) {
            if (polled[i].revents && !answer(polled[i].fd)) {
                close(polled[i].fd);
                polled[i] = polled[--used];
            }
        }
        if (polled[0].revents & POLLIN && used <= CLIENTS) {
            int fd = accept(polled[0].fd, NULL, NULL);
            if (fd < 0) continue;
            fcntl(fd, F_SETFL, O_NONBLOCK);
            polled[used++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
}
