/* Every rank adds its number to a vector; all must get the same sum, which is known.
 *   mpicc -O2 allreduce.c -o allreduce && offerd mpi -n 4 -- ./allreduce
 */

#include <mpi.h>
#include <stdio.h>

#define LENGTH 1000

int main(int argc, char **argv)
{
    int rank, size, wrong = 0, wrong_anywhere;
    long mine[LENGTH], sum[LENGTH];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = 0; i < LENGTH; i++)
        mine[i] = (long)(rank + 1) * i;
    MPI_Allreduce(mine, sum, LENGTH, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < LENGTH; i++)
        wrong += sum[i] != (long)size * (size + 1) / 2 * i;
    MPI_Allreduce(&wrong, &wrong_anywhere, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("allreduce over %d ranks: %d wrong of %d\n", size, wrong_anywhere, size * LENGTH);
    MPI_Finalize();
    return wrong_anywhere != 0;
}
