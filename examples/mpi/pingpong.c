/* How long a message of SIZE bytes takes from rank 0 to rank 1: half of a round trip, the median of many.
 *   mpicc -O2 pingpong.c -o pingpong && offerd mpi -n 2 -- ./pingpong [SIZE] [ROUNDS]
 */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int rank, size = argc > 1 ? atoi(argv[1]) : 8, rounds = argc > 2 ? atoi(argv[2]) : 10000;
    char *message = calloc(size > 0 ? size : 1, 1);
    double *halves_us = malloc(rounds * sizeof *halves_us);

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int round = -rounds / 10; round < rounds; round++) { /* the first ones warm up */
        double began = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(message, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(message, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(message, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(message, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
        if (round >= 0)
            halves_us[round] = (MPI_Wtime() - began) / 2 * 1e6;
    }
    if (rank == 0) {
        qsort(halves_us, rounds, sizeof *halves_us, ascending);
        printf("%d bytes: %.3f us\n", size, halves_us[rounds / 2]);
    }
    MPI_Finalize();
    free(message);
    free(halves_us);
    return 0;
}
