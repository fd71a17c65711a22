/* A C program: arguments, the environment, a directory that it fills and reads, and an exit code. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int no_dots(const struct dirent *entry) { return entry->d_name[0] != '.'; }

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char path[64];
        snprintf(path, sizeof path, "/data/%s", argv[i]);
        FILE *file = fopen(path, "w");
        if (!file || fprintf(file, "%s %d\n", getenv("WORD"), i) < 0 || fclose(file) != 0) {
            perror(path);
            return 1;
        }
    }
    struct dirent **entries;
    int count = scandir("/data", &entries, no_dots, by_name);
    for (int i = 0; i < count; i++) {
        char path[512], line[64];
        struct stat is;
        snprintf(path, sizeof path, "/data/%s", entries[i]->d_name);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file) || stat(path, &is) != 0) {
            perror(path);
            return 1;
        }
        printf("%s: %lld bytes: %s", entries[i]->d_name, (long long)is.st_size, line);
        fclose(file);
    }
    printf("%s\n", mkdir("/data/one", 0755) == 0 ? "made" : strerror(errno));
    return 9;
}
