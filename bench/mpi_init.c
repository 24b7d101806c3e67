/* Shows when the last rank has left MPI_Init: CLOCK_MONOTONIC, in seconds, printed by rank 0. */

#include <mpi.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv)
{
    struct timespec now;
    double mine, last;
    int rank;

    MPI_Init(&argc, &argv);
    clock_gettime(CLOCK_MONOTONIC, &now);
    mine = now.tv_sec + now.tv_nsec * 1e-9;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Reduce(&mine, &last, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%.6f\n", last);
    MPI_Finalize();
    return 0;
}
